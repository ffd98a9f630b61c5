"""Certificate files that a configuration names. They are read when the configuration is, so a bad one is reported with its key."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from typing import TYPE_CHECKING

from exporter.config.secret import system_words
from exporter.config.yaml_document import InvalidValue, text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import yaml


def path_in(directory: Path) -> Callable[[yaml.Node], Path]:
    """Return a reader of a path relative to the directory. The locale has to have all of its characters."""
    text_of = text(expected="a path")

    def read(node: yaml.Node) -> Path:
        path = directory / text_of(node)
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise InvalidValue(
                f"a path with characters that the locale's {encoding} lacks: set LC_ALL=C.UTF-8"
            ) from None
        return path

    return read


def file_in(directory: Path) -> Callable[[yaml.Node], Path]:
    """Return a reader of the path of a regular file. On a pipe OpenSSL would wait for ever."""
    path_of = path_in(directory)

    def read(node: yaml.Node) -> Path:
        path = path_of(node)
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except OSError as error:
            raise InvalidValue(f"{system_words(error)}: {path}") from None
        if not regular:
            raise InvalidValue(f"not a regular file: {path}")
        return path

    return read


def authorities_in(directory: Path) -> Callable[[yaml.Node], Path]:
    """Return a reader of the path of a file with the certificates of authorities."""
    file_of = file_in(directory)

    def read(node: yaml.Node) -> Path:
        path = file_of(node)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except ssl.SSLError:
            raise InvalidValue(f"no certificate in PEM format: {path}") from None
        except OSError as error:
            raise InvalidValue(f"{system_words(error)}: {path}") from None
        return path

    return read


def pair_problem(certificate: Path, key: Path, *, key_named: str) -> str | None:
    """Return what is wrong with a certificate and its key, or None. `key_named`: the key's place in the configuration."""
    try:
        # The empty password makes an encrypted key fail instead of asking on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        return _pair_words(error.reason or "", certificate, key_named)
    except OSError as error:
        return f"{system_words(error)}: {certificate} or {key}"
    return None


def _pair_words(reason: str, certificate: Path, key_named: str) -> str:
    # OpenSSL has one reason for a key of the same kind that is another one, and another reason for one of another kind.
    if reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}:
        return f"{key_named} is the key of another certificate: {certificate}"
    # How weak is too weak depends on the security level that OpenSSL was built or is configured with.
    if reason.endswith(("_KEY_TOO_SMALL", "_MD_TOO_WEAK")):
        return f"weaker than the OpenSSL of this machine allows ({reason.lower().replace('_', ' ')}): {certificate}"
    return f"no certificate in PEM format with its key in {key_named}, without a passphrase: {certificate}"
