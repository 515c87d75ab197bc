"""Key files of Google service accounts that exist nowhere but in the tests."""
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
    """A key file whose tokens come from `token_uri`."""
    path.write_text(json.dumps({
        "type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": _key(),
        "client_email": "load@p.iam.gserviceaccount.com", "client_id": "2", "token_uri": token_uri}))
    return path
