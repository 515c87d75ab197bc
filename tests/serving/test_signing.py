"""Signed versions: what their owner signed is loaded, and nothing else.

In full: make proof ONLY=signatures (ten thousand changes; a few minutes).
"""
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import keys
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from proof import Proof

from serving.signing import Signer, SigningError, Verifier, signature_path, statement_path

PROVEN = {"gates": [{"name": "parity", "passed": True}]}


def _version(folder: Path, number: int = 2) -> Path:
    """Files as a version has them: large and small ones, in folders, and an empty one."""
    version, random = folder / str(number), Random(number)
    for name, size in (("saved_model.pb", 3000), ("variables/variables.index", 200), ("assets/words.txt", 50),
                       ("variables/variables.data-00000-of-00001", 9000), ("assets.extra/manifest.json", 100),
                       ("assets.extra/empty", 0), (".hidden", 10)):
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(size))
    return version


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Signer, Verifier]:
    private, public = keys.written(tmp_path)
    return Signer.at(private), Verifier.at(public)


def _signed(signer: Signer, folder: Path, number: int = 2) -> Path:
    version = _version(folder, number)
    signer.sign_version(version)
    signer.state(version, "mnist", PROVEN)
    return version


def test_what_was_signed_is_accepted_with_what_was_proven_of_it(pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    version = _signed(signer, tmp_path / "mnist")
    verifier.require(version)
    statement = verifier.statement(version, "mnist")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicate"] == PROVEN
    assert statement["subject"][0]["name"] == "mnist/2"


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_longer_keys_do(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    private, public = keys.written(tmp_path, key=ec.generate_private_key(curve))
    version = _signed(Signer.at(private), tmp_path)
    Verifier.at(public).require(version)
    Verifier.at(public).statement(version, "mnist")


def test_the_librarys_own_command_accepts_it_and_we_accept_its(pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    version = _signed(signer, tmp_path / "mnist")

    def ran(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "model_signing", *arguments], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    path = str(signature_path(version))
    assert "succeeded" in ran("verify", "key", str(version), "--signature", path, "--public_key", str(verifier.path))
    signature_path(version).unlink()
    ran("sign", "key", str(version), "--signature", path, "--private_key", str(signer.path))
    verifier.require(version)
    # It leaves out git's files, and says so in what it signs: they are no files of a version here.
    for name in (".gitignore", ".git/config"):
        path = version / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"added later")
        with pytest.raises(SigningError, match="was added"):
            verifier.require(version)
        path.unlink()


# What happens to a version's files, each of which must be noticed.

def _some(version: Path, random: Random, least: int = 0) -> Path:
    return random.choice(sorted(path for path in version.rglob("*") if path.is_file() and path.stat().st_size >= least))


def _byte_changed(version: Path, random: Random) -> None:
    path = _some(version, random, 1)
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= random.randrange(1, 256)
    path.write_bytes(content)


def _cut(version: Path, random: Random) -> None:
    path = _some(version, random, 1)
    path.write_bytes(path.read_bytes()[:random.randrange(path.stat().st_size)])


def _longer(version: Path, random: Random) -> None:
    path = _some(version, random)
    path.write_bytes(path.read_bytes() + random.randbytes(random.randrange(1, 10)))


def _removed(version: Path, random: Random) -> None:
    _some(version, random).unlink()


def _folder_removed(version: Path, random: Random) -> None:
    shutil.rmtree(random.choice(sorted(path for path in version.iterdir() if path.is_dir())))


NAMES = (".git/config", ".gitignore", ".gitattributes", ".github/x", "model.sig", "a", "variables/b", ".c", "d/e/f")


def _added(version: Path, random: Random) -> None:
    path = version / random.choice(NAMES)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.randbytes(random.randrange(20)))


def _renamed(version: Path, random: Random) -> None:
    path = _some(version, random)
    target = version / random.choice([f"{path.name}x", ".gitignore", "assets/other", path.name.upper() + "_"])
    path.rename(target)


def _exchanged(version: Path, random: Random) -> None:
    one, other = random.sample(sorted(path for path in version.rglob("*") if path.is_file()), 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _linked(version: Path, random: Random) -> None:
    """The same content, which whoever owns the link's target may change later."""
    path = _some(version, random)
    target = version.parent / f"elsewhere-{path.name}"
    shutil.copy(path, target)
    path.unlink()
    path.symlink_to(target)


CHANGES: tuple[Callable[[Path, Random], None], ...] = (
    _byte_changed, _byte_changed, _byte_changed, _cut, _longer, _removed, _folder_removed, _added, _renamed, _exchanged,
    _linked)


def _refused(verifier: Verifier, signed: Path, seed: int) -> str:
    """What was done to a copy of a version; "" if that was accepted."""
    random = Random(seed)
    version = signed.parent / "copy" / signed.name
    shutil.rmtree(version.parent, ignore_errors=True)
    shutil.copytree(signed, version)
    shutil.copy(signature_path(signed), signature_path(version))
    change = random.choice(CHANGES)
    change(version, random)
    try:
        verifier.require(version)
    except SigningError:
        return change.__name__.strip("_")
    return ""


def test_whatever_changes_in_a_version_is_refused(pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    signed = _signed(signer, tmp_path)
    seen = Counter(_refused(verifier, signed, seed) for seed in range(150))
    assert "" not in seen
    assert len(seen) == len(set(CHANGES))


@pytest.mark.proof
def test_signatures_of_changed_versions(pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    signed = _signed(signer, tmp_path)
    row = Proof("signatures", seed=0, about=("serving/signing.py",)).row("10,000 changes", lambda: {
        "refused": dict(Counter(_refused(verifier, signed, seed) or "ACCEPTED" for seed in range(10_000)))})
    assert "ACCEPTED" not in row["refused"]
    assert sum(row["refused"].values()) == 10_000


# Signatures that are not this version's, or no signatures.

def _of_another_version(signer: Signer, version: Path) -> None:
    other = _signed(signer, version.parent, 3)
    shutil.copy(signature_path(other), signature_path(version))


def _of_the_same_files_under_another_number(signer: Signer, version: Path) -> None:
    other = version.parent / "7"
    shutil.copytree(version, other)
    signer.sign_version(other)
    shutil.copy(signature_path(other), signature_path(version))


def _of_another_key(signer: Signer, version: Path) -> None:
    private, _ = keys.written(version.parent, "other")
    Signer.at(private).sign_version(version)


def _half(signer: Signer, version: Path) -> None:
    path = signature_path(version)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _before_it_was_complete(signer: Signer, version: Path) -> None:
    signer.sign_version(version)
    (version / "variables/variables.data-00001-of-00002").write_bytes(b"later")


def _with_another_payload(signer: Signer, version: Path) -> None:
    path = signature_path(version)
    bundle, other = json.loads(path.read_bytes()), json.loads(signature_path(_signed(signer, version.parent, 3)
                                                                             ).read_bytes())
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    path.write_text(json.dumps(bundle))


@pytest.mark.parametrize(("forge", "words"), [
    (_of_another_version, "is not what was signed"), (_of_the_same_files_under_another_number, "of version 7, and not"),
    (_of_another_key, "Key mismatch"), (_half, "is not what was signed"), (_before_it_was_complete, "data-00001"),
    (_with_another_payload, "is not what was signed"),
    (lambda signer, version: signature_path(version).unlink(), "is not signed"),
    (lambda signer, version: signature_path(version).write_bytes(b""), "is not what was signed"),
    (lambda signer, version: signature_path(version).write_bytes(b"[]"), "is not what was signed"),
    (lambda signer, version: signature_path(version).write_bytes(b"\xff" * 100), "is not what was signed"),
    (lambda signer, version: signature_path(version).write_text("{}"), "is not what was signed"),
    (lambda signer, version: signature_path(version).write_text("[" * 100_000), "is not what was signed")])
def test_a_signature_that_is_not_this_versions_is_refused(
        forge: Callable[[Signer, Path], None], words: str, pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    version = _signed(signer, tmp_path / "mnist")
    forge(signer, version)
    with pytest.raises(SigningError, match=words) as caught:
        verifier.require(version)
    assert "\n" not in str(caught.value)


def _changed_statement(version: Path, **changes: object) -> None:
    path = statement_path(version)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize(("forge", "words"), [
    (lambda signer, version: statement_path(version).unlink(), "has no statement"),
    (lambda signer, version: statement_path(version).write_text("{"), "cannot be read"),
    (lambda signer, version: statement_path(version).write_text("[" * 100_000), "cannot be read"),
    (lambda signer, version: _changed_statement(version, payload="e30="), "cannot be read"),
    (lambda signer, version: _changed_statement(version, signatures=[]), "cannot be read"),
    (lambda signer, version: _changed_statement(version, signatures=[{"sig": "AAAA"}]), "was not signed with"),
    (lambda signer, version: _changed_statement(version, payloadType="text/plain"), "was not signed with"),
    (lambda signer, version: signer.state(version, "another", PROVEN), "on something else"),
    (lambda signer, version: shutil.copy(statement_path(_signed(signer, version.parent, 3)), statement_path(version)),
     "on something else")])
def test_a_statement_that_is_not_on_this_version_is_refused(
        forge: Callable[[Signer, Path], None], words: str, pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    version = _signed(signer, tmp_path / "mnist")
    forge(signer, version)
    with pytest.raises(SigningError, match=words):
        verifier.statement(version, "mnist")


# Keys.

def test_a_key_that_is_replaced_while_it_is_used_changes_nothing(
        pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    private, public = keys.written(tmp_path, "other")
    shutil.copy(private, signer.path)
    shutil.copy(public, verifier.path)
    version = _signed(signer, tmp_path / "mnist")
    assert verifier.require_proven(version, "mnist")["predicate"] == PROVEN
    assert signer.verifier.require_proven(version, "mnist")
    with pytest.raises(SigningError, match="Key mismatch"):
        Verifier.at(public).require(version)


def test_what_was_proven_of_one_model_is_not_proven_of_another(pair: tuple[Signer, Verifier], tmp_path: Path) -> None:
    signer, verifier = pair
    version = _signed(signer, tmp_path / "mnist")
    shutil.copytree(tmp_path / "mnist", tmp_path / "other")
    verifier.require_proven(version, "mnist")
    with pytest.raises(SigningError, match="on something else"):
        verifier.require_proven(tmp_path / "other/2", "other")


def test_keys_that_others_could_use_or_replace_are_refused(tmp_path: Path) -> None:
    private, public = keys.written(tmp_path)
    for mode in (0o640, 0o604, 0o660, 0o777):
        private.chmod(mode)
        with pytest.raises(SigningError, match="others may read or change the key: chmod go-rwx"):
            Signer.at(private)
    for mode in (0o664, 0o646):
        public.chmod(mode)
        with pytest.raises(SigningError, match="others may change the key: chmod go-w"):
            Verifier.at(public)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    private, public = keys.written(tmp_path)
    _, other = keys.written(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    locked, _ = keys.written(tmp_path, "locked", password=b"secret")
    odd, odd_public = keys.written(tmp_path, "odd", ec.generate_private_key(ec.SECP256K1()))
    nothing = tmp_path / "nothing"
    garbage = tmp_path / "garbage"
    garbage.touch(mode=0o600)
    garbage.write_bytes(os.urandom(100))
    unusable = {public: "others may read", nothing: "there is no key to be read", tmp_path: "there is no key",
                garbage: "is no private key in PEM; openssl", locked: "has a password", odd: "of another kind",
                other.with_suffix(".pem"): "of another kind"}
    for path, words in unusable.items():
        with pytest.raises(SigningError, match=words):
            Signer.at(path)
    for path, words in ((private, "is no public key in PEM"), (garbage, "is no public key"), (other, "of another kind"),
                        (odd_public, "of another kind"), (nothing, "there is no key")):
        with pytest.raises(SigningError, match=words):
            Verifier.at(path)
