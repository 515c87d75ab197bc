"""Key files of made-up Google service accounts."""
import json
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def _key() -> str:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def save_key(path: Path, token_uri: str) -> Path:
    """Writes a key file of an account whose tokens come from `token_uri`."""
    path.write_text(json.dumps({
        "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": _key(),
        "client_email": "load@p.iam.gserviceaccount.com", "client_id": "2", "token_uri": token_uri}))
    return path
