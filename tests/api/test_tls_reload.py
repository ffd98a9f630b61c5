"""The way to the API changes with the files and settings it is made of, and stays good when they go bad."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trustme

from exporter.api.tls_reload import ConnectOptionsSource
from exporter.config.model import ApiConfig, Config
from exporter.log import Log

if TYPE_CHECKING:
    from pathlib import Path

NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"


@dataclass
class Settings:
    """A configuration that a test may change, and the keeper that follows it."""

    api: ApiConfig = field(default_factory=ApiConfig)

    def __post_init__(self) -> None:
        self.keeper = ConnectOptionsSource(lambda: Config(api=self.api), Log())


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


def authorities(context: ssl.SSLContext) -> int:
    return context.cert_store_stats()["x509_ca"]


def test_the_route_is_one_and_the_same_while_nothing_changes(ca_file: Path) -> None:
    settings = Settings(ApiConfig(ca_file=ca_file))
    options = settings.keeper.options()
    assert settings.keeper.options() is options
    assert (options.proxy_url, options.max_response_bytes) == (None, settings.api.max_response_bytes)


def test_the_authorities_of_the_file_are_trusted_beside_the_usual_ones(ca_file: Path) -> None:
    usual = authorities(Settings().keeper.options().tls)
    assert authorities(Settings(ApiConfig(ca_file=ca_file)).keeper.options().tls) == usual + 1


@pytest.mark.parametrize("change", [{"proxy_url": "http://127.0.0.1:3128"}, {"max_response_bytes": 1024}])
def test_a_changed_setting_is_a_new_route(change: dict[str, object]) -> None:
    settings = Settings()
    before = settings.keeper.options()
    settings.api = replace(settings.api, **change)  # type: ignore[arg-type]  # the test names fields of ApiConfig
    after = settings.keeper.options()
    assert after is not before
    assert {name: getattr(after, name) for name in change} == change


def test_a_replaced_file_is_a_new_route(ca_file: Path) -> None:
    settings = Settings(ApiConfig(ca_file=ca_file))
    before = settings.keeper.options()
    other = ca_file.with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(str(other))
    other.replace(ca_file)
    assert settings.keeper.options().tls is not before.tls


@pytest.mark.parametrize("harm", ["vanished", "garbage", "half written"])
def test_files_gone_bad_leave_the_last_good_ones_in_force_until_they_are_good_again(
    ca_file: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = Settings(ApiConfig(ca_file=ca_file))
    good, content = settings.keeper.options(), ca_file.read_bytes()
    ca_file.unlink()
    if harm != "vanished":
        ca_file.write_text("garbage" if harm == "garbage" else NO_CERTIFICATE)
    assert settings.keeper.options().tls is good.tls
    assert settings.keeper.problem is not None
    ca_file.write_bytes(content)
    assert settings.keeper.options().tls is not good.tls
    assert [record.getMessage() for record in caplog.records] == ["tls_files_refused", "tls_files_recovered"]
    assert settings.keeper.problem is None


def test_files_that_are_bad_from_the_start_make_no_route(tmp_path: Path) -> None:
    settings = Settings(ApiConfig(ca_file=tmp_path / "absent"))
    for _ in range(2):
        with pytest.raises(OSError, match="No such file"):
            settings.keeper.options()


def test_a_key_that_does_not_match_its_certificate_makes_no_route(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    authority.issue_cert("client").cert_chain_pems[0].write_to_path(str(certificate))
    authority.issue_cert("other").private_key_pem.write_to_path(str(key))
    settings = Settings(ApiConfig(client_cert_file=certificate, client_key_file=key))
    with pytest.raises(ssl.SSLError):
        settings.keeper.options()
