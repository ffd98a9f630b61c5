"""Flags: how they are read, and what is a usage error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__, flags
from exporter.api.wire import State
from exporter.flags import ItemsQuery, Options, UsageError
from exporter.web.routes import WebSettings


def usage_error(*arguments: str) -> str:
    """Return the last line of what is printed for these flags."""
    with pytest.raises(UsageError) as invalid:
        flags.parse(arguments)
    usage, *_, problem = str(invalid.value).splitlines()
    assert usage.startswith("usage: managed-agents-exporter [")
    return problem.removeprefix("managed-agents-exporter: error: ")


def options(*arguments: str) -> Options:
    parsed = flags.parse(arguments)
    assert isinstance(parsed, Options)
    return parsed


def test_without_flags_everything_has_its_default() -> None:
    assert flags.parse([]) == Options(
        config_file=None,
        check=None,
        demo=False,
        simulator=False,
        simulator_address="127.0.0.1:9832",
        once=False,
        items=None,
        addresses=(":9831",),
        web=WebSettings(telemetry_path="/metrics", max_requests=40, enable_lifecycle=False),
        web_config_file=None,
        log_level="info",
        log_format="logfmt",
    )


def test_every_flag_reaches_its_option() -> None:
    one = flags.parse(
        [
            "--config.file=a.yml",
            "--config.check=online",
            *("--web.listen-address=:1", "--web.listen-address", "[::1]:2"),
            *("--web.telemetry-path=/m", "--web.max-requests=2", "--web.enable-lifecycle", "--web.config.file=w.yml"),
            *("--web.external-url=https://example.com/a/b/", "--web.route-prefix=c/"),
            *("--log.level=warn", "--log.format=json", "--simulator.listen-address=:3"),
        ]
    )
    assert one == Options(
        config_file=Path("a.yml"),
        check="online",
        demo=False,
        simulator=False,
        simulator_address=":3",
        once=False,
        items=None,
        addresses=(":1", "[::1]:2"),
        web=WebSettings(
            telemetry_path="/m",
            max_requests=2,
            enable_lifecycle=True,
            external_url="https://example.com/a/b",
            route_prefix="/c",
        ),
        web_config_file=Path("w.yml"),
        log_level="warn",
        log_format="json",
    )


@pytest.mark.parametrize(("argument", "mode"), [("--demo", "demo"), ("--simulator", "simulator"), ("--once", "once")])
def test_a_mode_is_a_flag_of_its_own(argument: str, mode: str) -> None:
    assert getattr(options(argument), mode)


@pytest.mark.parametrize(
    ("arguments", "external_url", "prefix", "home", "link_base"),
    [
        ([], None, "", "/", "./"),
        (["--web.route-prefix=/"], None, "", "/", "./"),
        (["--web.route-prefix=/p"], None, "/p", "/p/", "./"),
        (["--web.external-url=http://h:1"], "http://h:1", "", "/", "/"),
        (["--web.external-url=https://h/e//"], "https://h/e", "/e", "/e/", "/e/"),
        (["--web.external-url=https://h/e/x/"], "https://h/e/x", "/e/x", "/e/x/", "/e/x/"),
        (["--web.external-url=https://h/e", "--web.route-prefix=/"], "https://h/e", "", "/e/", "/e/"),
        (["--web.external-url=https://[::1]/e", "--web.route-prefix=p"], "https://[::1]/e", "/p", "/e/", "/e/"),
    ],
)
def test_the_prefix_of_the_routes_is_the_path_of_the_url_unless_it_is_given(
    arguments: list[str], external_url: str | None, prefix: str, home: str, link_base: str
) -> None:
    web = options(*arguments).web
    assert (web.external_url, web.route_prefix, web.home, web.link_base) == (external_url, prefix, home, link_base)


def test_a_check_is_offline_unless_it_says_otherwise() -> None:
    assert options("--config.check").check == "offline"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--web.max-requests=0"], "argument --web.max-requests: '0' is not a whole number above 0"),
        (["--web.max-requests=²"], "argument --web.max-requests: '²' is not a whole number above 0"),
        (["--web.telemetry-path=metrics"], "argument --web.telemetry-path: 'metrics' is not a path like /metrics"),
        (["--web.telemetry-path=/a?b"], "argument --web.telemetry-path: '/a?b' is not a path like /metrics"),
        (["--web.telemetry-path=/a/../b"], "argument --web.telemetry-path: '/a/../b' is not a path like /metrics"),
        (["--web.telemetry-path=/sd"], "argument --web.telemetry-path: '/sd' is a path that answers something else"),
        (
            ["--config.file="],
            "argument --config.file: an empty path; leave the flag out, or check the variable it is made of",
        ),
        (
            ["--web.config.file="],
            "argument --web.config.file: an empty path; leave the flag out, or check the variable it is made of",
        ),
        *(
            (
                [f"--web.external-url={url}"],
                f"argument --web.external-url: {url!r} is not an address like https://example.com/exporter",
            )
            for url in (
                "",
                "/exporter",
                "h/e",
                "ftp://h",
                "https://h/e?x",
                "https://u:p@h",
                "https://h//e",
                "https://h/../e",
                "https://h/e/.",
                "javascript:x",
            )
        ),
        *(
            ([f"--web.route-prefix={path}"], f"argument --web.route-prefix: {path!r} is not a path like /exporter")
            for path in ("/a?b", "/{a}", "/a b", "a//b", "/a/../b", ".")
        ),
        (["--demo", "--simulator"], "--simulator can't go with --demo"),
        (["--demo", "--config.file=x"], "--demo can't go with --config.file"),
        (["--config.check", "--once"], "--config.check can't go with --once"),
        (["--web.max=1"], "unrecognized arguments: --web.max=1"),
    ],
)
def test_a_bad_flag_is_named_with_its_rule(arguments: list[str], problem: str) -> None:
    assert usage_error(*arguments) == problem


def test_a_word_that_is_no_choice_is_a_usage_error() -> None:
    assert usage_error("--log.level=loud").startswith("argument --log.level: invalid choice: 'loud'")


@pytest.mark.parametrize("address", ["9831", "host", "::1:9831", "127.0.0.1:99999", "127.0.0.1:x"])
@pytest.mark.parametrize("flag", ["--web.listen-address", "--simulator.listen-address"])
def test_an_invalid_address_is_named(flag: str, address: str) -> None:
    assert (
        usage_error(f"{flag}={address}")
        == f"argument {flag}: {address!r} is no listen address: give :port, host:port or [v6]:port"
    )


def test_the_version_and_the_help_are_texts_to_print() -> None:
    version, text = flags.parse(["--version"]), flags.parse(["--help"])
    assert str(version).startswith(f"managed-agents-exporter {__version__} (Python 3.")
    assert all(f"--{name}" in str(text) for name in ("config.check", "web.listen-address", "version"))


def test_a_name_is_read_as_utf_8_whatever_the_locale_is() -> None:
    command = (
        "from exporter import flags; print(ascii(flags.parse(['--items', __import__('sys').argv[1]]).items.target))"
    )
    environ = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    printed = subprocess.check_output([sys.executable, "-c", command, "schlüssel"], env=environ, text=True)
    assert printed == "'schl\\xfcssel'\n"


def test_items_are_those_of_one_environment_in_every_live_state_as_a_table() -> None:
    states = (State.QUEUED, State.STARTING, State.ACTIVE, State.STOPPING, State.UNKNOWN)
    assert options("--items=production").items == ItemsQuery(target="production", states=states, format="table")
    given = options("--items", "env_1", "--items.state=starting", "--items.state=active", "--items.format=json")
    assert given.items == ItemsQuery(target="env_1", states=(State.STARTING, State.ACTIVE), format="json")
    assert given.reads_once


@pytest.mark.parametrize(
    "arguments",
    [
        ["--items.state=active"],
        ["--items.format=json"],
        ["--items=x", "--items.state=stopped"],
        ["--items=x", "--once"],
        ["--items=x", "--config.check"],
        ["--items=x", "--simulator"],
    ],
)
def test_flags_of_items_that_would_have_no_effect_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(flags.UsageError):
        flags.parse(arguments)
