"""The documentation describes the house that is there: its packages, its modules and its words."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from tests.shipped.documentation import ROOT, page

if TYPE_CHECKING:
    from pathlib import Path

HOW_IT_WORKS = page("docs/how-it-works.md")
DEVELOPMENT = page("docs/development.md")
CODE = sorted((ROOT / "exporter").rglob("*.py"))
APART = "simulator"


def layers_of_the_contract() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layered,) = (contract for contract in contracts if contract["type"] == "layers")
    assert layered["exhaustive_ignores"] == [APART]
    return [set(layer.split(" | ")) for layer in layered["layers"]]


def layers_of_the_picture() -> list[set[str]]:
    (picture,) = (block.text for block in HOW_IT_WORKS.blocks("text") if block.text.startswith("__main__"))
    rows = (re.match(r"\w+(?: \| \w+)*(?=  )", line) for line in picture.splitlines())
    return [set(row[0].split(" | ")) for row in rows if row]


def names_in(folder: Path) -> set[str]:
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py") if path.name != "__init__.py"}


def test_the_picture_of_the_packages_is_the_contract() -> None:
    assert layers_of_the_picture() == layers_of_the_contract()


def test_the_picture_of_the_packages_is_the_folder() -> None:
    assert {name for layer in layers_of_the_picture() for name in layer} | {APART} == names_in(ROOT / "exporter")


def test_the_module_map_has_every_module_once_and_no_other() -> None:
    mapped = [name.strip("`") for name, _ in DEVELOPMENT.rows("module", "what it holds")]
    modules = {str(path.relative_to(ROOT)) for path in CODE if path.name != "__init__.py"}
    assert len(mapped) == len(set(mapped))
    assert set(mapped) == modules


def test_the_tests_that_the_recipes_name_exist() -> None:
    named = [span.split("::") for span in DEVELOPMENT.spans if "::" in span]
    assert len(named) >= 15
    for path, test in named:
        assert re.search(rf"^(?:async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path} has no {test}"


def test_the_words_of_the_glossary_are_few_and_in_order() -> None:
    words = [word for word, _ in HOW_IT_WORKS.rows("word", "meaning")]
    assert words == sorted(set(words))
    assert 10 <= len(words) <= 20


def test_the_words_of_the_glossary_are_those_of_the_code() -> None:
    code = "\n".join(path.read_text() for path in CODE)
    for word, _ in HOW_IT_WORKS.rows("word", "meaning"):
        assert re.search(rf"(?<![a-z]){word.replace(' ', '[ _-]?')}", code, re.IGNORECASE), f"no {word} in the code"
