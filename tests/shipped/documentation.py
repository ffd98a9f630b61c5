"""What the documentation says: its pages, and the code blocks, tables and links in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return FENCE.sub("", self.text)

    @property
    def spans(self) -> list[str]:
        """What stands between backticks in the prose."""
        return SPAN.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """The headings as the links to them are written: GitHub's rule."""
        headings = (heading.replace("`", "").lower() for heading in HEADING.findall(self.prose))
        return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in headings}

    @property
    def links(self) -> list[str]:
        return LINK.findall(self.prose)

    def blocks(self, *languages: str) -> list[Block]:
        found = (Block(language, text) for language, text in FENCE.findall(self.text))
        return [block for block in found if block.language in languages]

    def commands(self) -> Iterator[str]:
        """Yield what is typed: the lines of shell blocks, and those behind a prompt, continued lines put together."""
        for block in self.blocks("sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip():
                    yield line
        for block in self.blocks("console"):
            yield from (line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))

    def rows(self, *header: str) -> list[tuple[str, ...]]:
        """Return the rows of all tables with this header, as the texts of their cells."""
        first = "| " + " | ".join(header) + " |"
        rows: list[tuple[str, ...]] = []
        inside = False
        for line in self.prose.splitlines():
            if inside and line.startswith("|"):
                rows.append(tuple(cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")))
            else:
                inside = line == first
        return [row for row in rows if set("".join(row)) != {"-"}]


def page(name: str) -> Page:
    path = ROOT / name
    return Page(path, path.read_text())


def pages() -> list[Page]:
    """Return everything that is written for readers."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [Page(path, path.read_text()) for path in sorted(paths)]
