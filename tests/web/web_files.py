"""The files that a web configuration names, and configurations of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import trustme

HASH = "$2b$04$cRqIQRztD/UjJKDCyeA9Ru3YxXK9jN3wp6bUGc7spQfH1dTyIpfdG"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
USERS = f"basic_auth_users:\n  alice: {HASH}\n"


def issue(authority: trustme.CA, directory: Path, name: str) -> None:
    leaf = authority.issue_cert(name)
    leaf.private_key_pem.write_to_path(directory / "server.key")
    leaf.cert_chain_pems[0].write_to_path(directory / "server.crt")


def write(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    return path
