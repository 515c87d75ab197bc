"""Versions and records that cannot be forged: signed with an elliptic key, and known by its public one.

    MODEL/.VERSION.sig      the signature of all files of MODEL/VERSION: OpenSSF Model Signing 1.0, a Sigstore bundle,
                            which `python -m model_signing verify key` reads as well
    MODEL/.VERSION.intoto   what was proven of it: an in-toto statement in a signed DSSE envelope

Servers skip these names. Sources: OMS specification 1.0; in-toto attestation framework 1.0; DSSE 1.0.
"""
from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

import durable
from user_error import UserError
from version_directory import signature_path, statement_path

_STATEMENT, _PAYLOAD = "https://in-toto.io/Statement/v1", "application/vnd.in-toto+json"
PREDICATE = "urn:tfserving-kit:proven:v1"
_CURVES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256, "secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}
_MAKE_KEYS = ("openssl ecparam -name prime256v1 -genkey -noout -out key.pem && chmod 600 key.pem && "
              "openssl ec -in key.pem -pubout -out key.pub")


class SigningError(UserError):
    """A key that cannot be used, or something that its owner did not sign."""


@dataclass(frozen=True)
class Signer:
    """A private key, PEM, P-256, P-384 or P-521, that only its owner can read."""

    path: Path
    key: ec.EllipticCurvePrivateKey
    pem: bytes

    @classmethod
    def at(cls, path: Path) -> Signer:
        """Raises SigningError for a file that is no such key, or that others can read; ImportError without the extra
        `signing`."""
        pem = _read(path, stat.S_IRWXG | stat.S_IRWXO, "read or change")
        try:
            key = _loaded(path, "private", ec.EllipticCurvePrivateKey, lambda: load_pem_private_key(pem, None))
        except TypeError:
            raise SigningError(f"{path}: the key has a password, which cannot be asked for here: `openssl ec -in KEY "
                               "-out PLAIN` takes it off") from None
        return cls(path, key, pem)

    @property
    def verifier(self) -> Verifier:
        """Of what this key signs."""
        public = self.key.public_key()
        return Verifier(self.path, public, public.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def sign_version(self, version: Path) -> dict[str, str]:  # decision 245
        """Writes the signature of all files below a directory beside it. Returns what was signed, {name: SHA-256}.
        Raises OSError."""
        from model_signing import signing
        config: Any = signing.Config
        with TemporaryDirectory() as folder:
            key, made = _copy(folder, "key", self.pem), Path(folder, "signature")
            config().use_elliptic_key_signer(private_key=key).set_hashing_config(_hashing()).sign(version, made)
            content = made.read_bytes()
            durable.write(signature_path(version), content)
        return _resources(_payload(content))

    def state(self, version: Path, model: str, proven: Mapping[str, Any]) -> None:
        """Writes what was proven of a version that is signed beside it. Raises OSError."""
        content = json.dumps({"_type": _STATEMENT, "predicateType": PREDICATE, "predicate": proven, "subject": [
            {"name": f"{model}/{version.name}", "digest": {"sha256": _root(signature_path(version))}}]}).encode()
        envelope = {"payloadType": _PAYLOAD, "payload": base64.b64encode(content).decode(), "signatures": [
            {"keyid": "", "sig": self.signature(_authenticated(content))}]}
        durable.write(statement_path(version), json.dumps(envelope, indent=1).encode())

    def signature(self, content: bytes) -> str:
        """Of these bytes, in base64."""
        return base64.b64encode(self.key.sign(content, ec.ECDSA(_CURVES[self.key.curve.name]()))).decode()


@dataclass(frozen=True)
class Verifier:
    """A public key, PEM, that only its owner can change."""

    path: Path
    key: ec.EllipticCurvePublicKey
    pem: bytes

    @classmethod
    def at(cls, path: Path) -> Verifier:
        """Raises SigningError for a file that is no such key, or that others can change; ImportError without the extra
        `signing`."""
        pem = _read(path, stat.S_IWGRP | stat.S_IWOTH, "change")
        key = _loaded(path, "public", ec.EllipticCurvePublicKey, lambda: load_pem_public_key(pem))
        return cls(path, key, pem)

    def require(self, version: Path) -> dict[str, str]:
        """Returns the files of a version, {name: SHA-256}. Raises SigningError unless they are exactly those that the
        key's owner signed as a version of this number."""
        from model_signing import verifying
        config: Any = verifying.Config
        signature = signature_path(version)
        try:
            # Read once: what is verified must be what is looked at afterwards.
            content = signature.read_bytes()
        except OSError as error:
            raise SigningError(f"{version} is not signed: {signature}: {error.strerror}") from None
        try:
            if not json.loads(content)["verificationMaterial"]["publicKey"]["hint"]:
                raise ValueError("it does not name its key, as before version 1.0")
            with TemporaryDirectory() as folder:
                key, copy = _copy(folder, "key", self.pem), _copy(folder, "signature", content)
                config().use_elliptic_key_verifier(public_key=key).set_hashing_config(_hashing()).verify(version, copy)
            payload = _payload(content)
            name, signed = str(payload["subject"][0]["name"]), _resources(payload)
        except Exception as error:  # noqa: BLE001 - whatever the library raises for half a signature, or a forged one
            raise SigningError(f"{version} is not what was signed with the key of {self.path}: "
                               f"{_first_line(error)}") from None
        # A signature may say which files it leaves out.
        if unsigned := sorted(_names(version) - signed.keys()):
            raise SigningError(f"{version} is not what was signed: {unsigned[0]} was added")
        if name != version.name:
            raise SigningError(f"{signature} is the signature of version {name}, and not of {version.name}")
        return signed

    def require_proven(self, version: Path, model: str) -> dict[str, Any]:
        """The statement on what was proven of a version. Raises SigningError unless both are signed: the files, and
        that they were proven as this version of this model."""
        self.require(version)
        return self.statement(version, model)

    def statement(self, version: Path, model: str) -> dict[str, Any]:
        """What was proven of a version. Raises SigningError if the key's owner did not state that."""
        path = statement_path(version)
        try:
            envelope = json.loads(path.read_bytes())
            content = base64.b64decode(envelope["payload"], validate=True)
            signed = self.verifies(_authenticated(content), envelope["signatures"][0]["sig"])
            statement: dict[str, Any] = json.loads(content)
            subject = statement["subject"][0]
            is_of = (statement["_type"], statement["predicateType"], subject["name"], subject["digest"]["sha256"]) == (
                _STATEMENT, PREDICATE, f"{model}/{version.name}", _root(signature_path(version)))
        except FileNotFoundError:
            raise SigningError(f"{version} has no statement on what was proven: there is no {path}") from None
        except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise SigningError(f"{path} cannot be read: {_first_line(error)}") from None
        if not signed or envelope["payloadType"] != _PAYLOAD:
            raise SigningError(f"{path} was not signed with the key of {self.path}")
        if not is_of:
            raise SigningError(f"{path} is a statement on something else than this version of {model}")
        return statement

    def verifies(self, content: bytes, signature: str) -> bool:
        """Whether this is the owner's signature of these bytes."""
        try:
            self.key.verify(base64.b64decode(signature, validate=True), content,
                            ec.ECDSA(_CURVES[self.key.curve.name]()))
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True


def _loaded(path: Path, name: str, kind: Any, load: Callable[[], Any]) -> Any:
    try:
        key = load()
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{path} is no {name} key in PEM; {_MAKE_KEYS}") from None
    if not isinstance(key, kind) or key.curve.name not in _CURVES:
        raise SigningError(f"{path} is a key of another kind: P-256, P-384 or P-521 is needed; {_MAKE_KEYS}")
    _hashing()  # without the library nothing can be signed or verified
    return key


def _hashing() -> Any:
    """All files count: the library leaves out git's by itself, which could hide some."""
    from model_signing import hashing
    config: Any = hashing.Config
    return config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _names(version: Path) -> set[str]:
    """The paths of all files below a version."""
    return {Path(folder, name).relative_to(version).as_posix()
            for folder, _, names in os.walk(version, followlinks=True) for name in names}


def _copy(folder: str, name: str, content: bytes) -> Path:
    """A file that only this user can read: who can change the original cannot change this one."""
    path = Path(folder, name)
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _payload(signature: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    return found


def _resources(payload: Mapping[str, Any]) -> dict[str, str]:
    found = {str(one["name"]): str(one["digest"]) for one in payload["predicate"]["resources"]}
    if any(one["algorithm"] != "sha256" for one in payload["predicate"]["resources"]):
        raise ValueError("its digests are of another kind than SHA-256")
    return found


def _root(signature: Path) -> str:
    """The digest of all files, as the signature has it."""
    return str(_payload(signature.read_bytes())["subject"][0]["digest"]["sha256"])


def _authenticated(content: bytes) -> bytes:
    """What DSSE signs: the type and the content, each with its length before it."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(content), content)


def _read(path: Path, forbidden: int, doing: str) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}: there is no key to be read") from None
    if mode & forbidden:
        raise SigningError(f"{path}: others may {doing} the key: chmod go-{'rwx' if forbidden & stat.S_IRGRP else 'w'} "
                           f"{path}")
    return content


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
