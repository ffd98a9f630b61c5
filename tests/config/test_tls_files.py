"""What is wrong with certificate files is said where the configuration names them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from exporter.config import tls_files
from tests.config.parsing import ENVIRONMENT, problems

if TYPE_CHECKING:
    from pathlib import Path

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def write_pair(directory: Path, certified: PrivateKey, key: PrivateKey) -> tuple[Path, Path]:
    """Write a certificate for the first key, and the second key beside it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(certified.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=3650))
        .sign(certified, SHA256())
    )
    files = directory / "cert.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def problem(files: tuple[Path, Path]) -> str | None:
    return tls_files.pair_problem(*files, key_named="key_file")


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_a_certificate_with_its_key_has_no_problem(rsa_key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    assert problem(write_pair(tmp_path, rsa_key, rsa_key)) is None


def test_a_key_of_the_same_or_another_kind_is_the_key_of_another_certificate(
    rsa_key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    pairs: list[tuple[PrivateKey, PrivateKey]]
    elliptic = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    pairs = [(elliptic[0], elliptic[1]), (rsa_key, elliptic[0]), (elliptic[0], rsa_key)]
    for certified, key in pairs:
        cert_file, key_file = write_pair(tmp_path, certified, key)
        assert problem((cert_file, key_file)) == f"key_file is the key of another certificate: {cert_file}"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("EE_KEY_TOO_SMALL", "weaker than the OpenSSL of this machine allows (ee key too small)"),
        ("CA_MD_TOO_WEAK", "weaker than the OpenSSL of this machine allows (ca md too weak)"),
        ("NO_START_LINE", "no certificate in PEM format with its key in key_file, without a passphrase"),
        ("", "no certificate in PEM format with its key in key_file, without a passphrase"),
    ],
)
def test_a_pair_that_only_this_machine_rejects_is_not_called_malformed(reason: str, words: str, tmp_path: Path) -> None:
    assert tls_files._pair_words(reason, tmp_path, "key_file") == f"{words}: {tmp_path}"


def test_a_file_that_vanishes_between_two_looks_is_named(tmp_path: Path) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert problem(files) == f"no such file: {files[0]} or {files[1]}"


def test_a_path_that_the_locale_can_not_express_is_a_problem_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object) -> bytes:
        raise UnicodeEncodeError("ascii", str(path), 0, 1, "ordinal not in range(128)")

    monkeypatch.setattr("os.fsencode", fail)
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    for key in ("api_key_file", "ca_file", "client_cert_file"):
        text = f"api: {{{key}: schlüssel/key, client_key_file: null}}\n{ENVIRONMENT}"
        assert problems(text)[0] == (
            f"api.{key}: a path with characters that the locale's ascii lacks: set LC_ALL=C.UTF-8"
        )
