"""What is not YAML, or more than this format needs of it, is reported with its place and never quoted."""

from __future__ import annotations

import gc

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config.load import keys
from exporter.config.model import ConfigError
from tests.config.parsing import CANARY, parsed, problems

BAD_YAML = [
    ("api: canary4f3a9c: x", "line 1, column 18: not valid YAML: mapping values are not allowed here"),
    ("api: 'canary4f3a9c", "line 1, column 19: not valid YAML: found unexpected end of stream"),
    ("api: [canary4f3a9c", "line 1, column 19: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("api: {canary4f3a9c]", "line 1, column 19: not valid YAML: expected ',' or '}', but got ']'"),
    ("api: @canary4f3a9c", "line 1, column 6: not valid YAML: found character '@' that cannot start any token"),
    ("\tapi: canary4f3a9c", "line 1, column 1: not valid YAML: found character '\\t' that cannot start any token"),
    ("api: !canary4f3a9c!x y", "line 1, column 6: not valid YAML: found undefined tag handle …"),
    ('api: "canary4f3a9c\\q"', "line 1, column 20: not valid YAML: found unknown escape character 'q'"),
    ("api: a\n--- canary4f3a9c", "line 2, column 1: not valid YAML: but found another document"),
    ("api: canary4f3a9c\n\n\x07", "line 3: not valid YAML: a control character or one that can't be encoded"),
    ('api: "\\UFFFFFFFF"', "the file: not valid YAML: an escape or a number beyond what is possible"),
    (
        "%YAML 9.1\n--- {}",
        "line 1, column 1: not valid YAML: found incompatible YAML document (version 1.* is required)",
    ),
    ("canary4f3a9c", "the file: expected a mapping of keys, not text"),
    ("- canary4f3a9c", "the file: expected a mapping of keys, not a list"),
    ("[" * 100_000, "line 1, column 17: not valid YAML: nested too deeply"),
    ("#" * 1_048_577, "the file: more than 1 MiB"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_YAML, ids=[text[:30] for text, _ in BAD_YAML])
def test_what_is_not_yaml_is_refused_with_its_place_and_never_quoted(text: str, problem: str) -> None:
    assert problems(text) == [problem]


words = st.sampled_from(
    [
        *(key.rpartition(".")[2] for key in keys()),
        *(
            "api_key",
            "env_a",
            "env_b",
            "KEY",
            "10s",
            "8MiB",
            "1",
            "true",
            "null",
            "bearer",
            "https://h",
            "&a",
            "*a",
            "!!int",
        ),
        *(
            ": ",
            "\n",
            "\n  ",
            "\n  - ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "'",
            '"',
            "#",
            "|",
            ">",
            "?",
            "%YAML",
            "---",
            "<<",
            "\\U",
            "\t",
        ),
    ]
)
texts = st.text(max_size=200) | st.lists(words, max_size=40).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)


@given(texts | values.map(lambda value: yaml.safe_dump(value, allow_unicode=True)))
@example("api: 0x_")
@example("a: 0b_\nb: 1:60\nc: " + "9" * 5000)
@example("? ? a")
@example('"\\x')
def test_any_text_is_a_configuration_or_a_list_of_problems(text: str) -> None:
    try:
        parsed(text)
        found = ["none"]
    except ConfigError as error:
        found = list(error.problems)
    assert found
    assert all(problem.isprintable() for problem in found)


@given(
    st.sampled_from([key for key in keys() if not key.endswith("_file")]),
    st.sampled_from(
        ["{}", "'{}'", "|\n   {}", "[{}]", "{{a: {}}}", "!{} x", "&{} x", "*{}", "'{}", '"\\q{}"', "@{}", "{}: {}"]
    ),
    st.sampled_from(
        [f"sk-ant-api03-{CANARY}", f"{CANARY}.{CANARY}/x", f"https://u:{CANARY}@h", f"{CANARY}s", f"{CANARY}0123456789"]
    ),
)
def test_a_credential_in_the_wrong_place_is_never_quoted(key: str, form: str, credential: str) -> None:
    section, _, name = key.rpartition(".")
    value = form.replace("{}", credential).replace("{{", "{").replace("}}", "}")
    text = (
        f"environments: [{{{name}: {value}}}]"
        if section == "environments[]"
        else f"{section or 'api'}:\n  {name}: {value}"
    )
    try:
        config = parsed(text)
    except ConfigError as error:
        shown = str(error)
    else:
        shown = "" if name in {"version", "beta", "workspace_id", "name"} else repr(config)
    assert CANARY not in shown


def test_nothing_of_the_text_is_kept_once_its_values_are_taken() -> None:
    gc.collect()
    gc.disable()  # what it would free, it would free much later
    try:
        parsed("environments: [{id: env_a}, {id: env_b}]\napi: {api_key_env: KEY}")
        kept = [each for each in gc.get_objects() if isinstance(each, yaml.Node)]
    finally:
        gc.enable()
    assert kept == []
