"""A YAML file as sections whose values are taken one by one and checked; problems are collected.

What a file contains raises nothing. An invalid value is noted with its place, and its default is used instead, so one reading finds
every problem. No message quotes a value, because it may be a credential in the wrong place, and a key only if it looks like one.
PyYAML finds the nodes and their places; its resolvers and constructors, which guess and quote, are not used.
"""

from __future__ import annotations

import difflib
import io
import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from exporter.config.model import without_controls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE_LIMIT: Final = 1024 * 1024
DEPTH_LIMIT: Final = 16
"""No configuration nests deeper than four; beyond this, composing would run into Python's recursion limit."""
TEXT_LENGTH_LIMIT: Final = 4096

T = TypeVar("T")
Choice = TypeVar("Choice", bound=str)

_REJECTED_TAG = "!rejected"
_SHOWABLE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_NULL = re.compile(r"(?:~|null|Null|NULL)?")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_BOOLEAN_BY_WORD: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MILLISECONDS_BY_UNIT: Final = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _MILLISECONDS_BY_UNIT))
_BYTES_BY_UNIT: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = re.compile(r"([0-9]{1,9})(B|KiB|MiB|GiB)")
_QUOTE = re.compile(r"'([^']*)'")


class InvalidValue(Exception):  # noqa: N818 -- it is not a failure: it is noted, and reading goes on
    """A value that breaks a rule. The text says the rule or what was expected, never the value."""


class _Notes:
    """What is found while a document is read: its problems, and the keys that were taken, in order, with `[]` for any index.

    Sections refer to it and not to their document: without a cycle all nodes are freed as soon as the last value was taken.
    """

    def __init__(self) -> None:
        self.problems: list[tuple[int, str]] = []
        self.keys: dict[str, None] = {}

    def note(self, line: int, problem: str) -> None:
        self.problems.append((line, problem))


class Document:
    """A text that is read once. Take values from its `root`; then ask for the `problems` and the `keys` that were taken."""

    def __init__(self, text: str) -> None:
        self._notes = _Notes()
        node = _compose(text, self._notes)
        self.root = Section(self._notes, "", node)
        self.usable = self.root.usable and (node is not None or not self._notes.problems)
        """Whether there are values to take. If not, the problems say why."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that was taken, in order, with `[]` for any index."""
        return tuple(self._notes.keys)

    def problems(self) -> tuple[str, ...]:
        """Return every problem in the file's order. A key that has not been taken by now is an unknown one."""
        found = sorted([*self._notes.problems, *self.root.unknown_keys()], key=lambda each: each[0])
        return tuple(problem for _, problem in found)


class Section:
    """A mapping in the document. A key that is absent or null keeps its default."""

    def __init__(self, notes: _Notes, place: str, node: yaml.Node | None) -> None:
        self.place = place
        self.usable = node is None or _null(node) or isinstance(node, yaml.MappingNode)
        self._notes = notes
        self._line = _line(node) if node else 0
        self._asked: dict[str, None] = {}
        self._own_words: set[str] = set()
        self._children: list[Section] = []
        self._node_by_key: dict[str, yaml.Node] = {}
        self._fill(node)

    def take(self, key: str, read: Callable[[yaml.Node], T], default: T) -> T:
        """Return what `read` makes of the key's value; the default if the key isn't given, or is invalid and noted."""
        node = self._ask(key)
        if node is None:
            return default
        try:
            return read(node)
        except InvalidValue as invalid:
            self.note(key, str(invalid))
            return default

    def section(self, key: str) -> Section:
        return self._child(self._at(key), self._ask(key))

    def sections(self, key: str) -> list[Section]:
        """Return the mappings in a list. Anything else in it is noted and left out."""
        children = [self._child(place, item) for place, item in self._items(key)]
        return [child for child in children if child.usable]

    def take_each(self, key: str, read: Callable[[yaml.Node], T]) -> tuple[T, ...]:
        """Return what `read` makes of each item of a list. Invalid items are noted with their index and left out."""
        values: list[T] = []
        for place, item in self._items(key):
            try:
                values.append(read(item))
            except InvalidValue as invalid:
                self._notes.note(_line(item), f"{place}: {invalid}")
        return tuple(values)

    def entries(self, read: Callable[[yaml.Node], T]) -> Iterator[tuple[str, T]]:
        """Yield every key with what `read` makes of its value, for a section in which users choose the keys."""
        for key in self._node_by_key:
            self._asked[key] = None
            node = self._node_by_key[key]
            try:
                yield key, read(node)
            except InvalidValue as invalid:
                self.note(key, str(invalid))

    def given(self, key: str) -> bool:
        """Return whether the key has a value, valid or not. An empty list is no value."""
        node = self._node_by_key.get(key)
        return node is not None and not _null(node) and (not isinstance(node, yaml.SequenceNode) or bool(node.value))

    def reject(self, key: str, problem: str) -> None:
        """Note the problem if the key is there: for keys that users expect and this file does not have."""
        if key in self._node_by_key:
            self._asked[key] = None
            self.note(key, problem)

    def note(self, key: str | None, problem: str) -> None:
        node = self._node_by_key.get(key) if key else None
        place = self._at(key) if key else self.place
        self._notes.note(_line(node) if node else self._line, f"{place}: {problem}")

    def unknown_keys(self) -> Iterator[tuple[int, str]]:
        for key, node in self._node_by_key.items():
            if key not in self._asked:
                nearest = difflib.get_close_matches(key, self._asked, n=1)
                meant = f", did you mean {nearest[0]}?" if nearest else ""
                yield _line(node), f"{self._at(key)}: unknown key{meant}"
        for child in self._children:
            yield from child.unknown_keys()

    def _ask(self, key: str) -> yaml.Node | None:
        self._asked[key] = None
        self._own_words.add(key)
        self._notes.keys[re.sub(r"\[[0-9]+\]", "[]", self._at(key))] = None
        node = self._node_by_key.get(key)
        return None if node is None or _null(node) else node

    def _items(self, key: str) -> list[tuple[str, yaml.Node]]:
        """Return the items of a list with their places."""
        node = self._ask(key)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.note(key, f"expected a list, not {_kind(node)}")
            return []
        return [(f"{self._at(key)}[{index}]", item) for index, item in enumerate(node.value)]

    def _at(self, key: str) -> str:
        showable = key in self._own_words or _SHOWABLE_KEY.fullmatch(key)
        shown = key if showable else f"(a key on line {_line(self._node_by_key[key])})"
        return f"{self.place}.{shown}" if self.place else shown

    def _child(self, place: str, node: yaml.Node | None) -> Section:
        child = Section(self._notes, place, node)
        self._children.append(child)
        return child

    def _fill(self, node: yaml.Node | None) -> None:
        """Keep the nodes by key. Note a key that is no text or comes twice, and a node that is no mapping."""
        if node is None or _null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self._notes.note(self._line, f"{self.place or 'the file'}: expected a mapping of keys, not {_kind(node)}")
            return
        for key_node, value in node.value:
            key, line = key_node.value, _line(key_node)
            if _kind(key_node) != "text":
                self._notes.note(line, f"line {line}: expected a key that is text, not {_kind(key_node)}")
            elif key in self._node_by_key:
                lines = f"{_line(self._node_by_key[key])} and {line}"
                self._notes.note(line, f"{self._at(key)}: given twice, on lines {lines}")
            else:
                self._node_by_key[key] = value


def flag(node: yaml.Node) -> bool:
    value = _BOOLEAN_BY_WORD.get(node.value.lower()) if _kind(node) == "true or false" else None
    if value is None:
        raise _mismatch("true or false", node, "true or false")
    return value


def whole(*, least: int, most: int) -> Callable[[yaml.Node], int]:
    def read(node: yaml.Node) -> int:
        value = int(node.value) if _kind(node) == "a number" and _WHOLE.fullmatch(node.value) else None
        if value is None or not least <= value <= most:
            raise _mismatch(f"a whole number from {least} to {most}", node, "a number")
        return value

    return read


def rising_numbers(node: yaml.Node) -> tuple[float, ...]:
    expected = "a list of positive numbers, each greater than the one before"
    if not isinstance(node, yaml.SequenceNode):
        raise _mismatch(expected, node, "a list")
    if any(_kind(item) != "a number" for item in node.value):
        raise InvalidValue(f"expected {expected}")
    values = tuple(float(item.value) for item in node.value)
    rising = all(low < high for low, high in zip((0.0, *values), values, strict=False))
    if not values or not rising or not math.isfinite(values[-1]):
        raise InvalidValue(f"expected {expected}")
    return values


def text(*, matching: re.Pattern[str] | None = None, expected: str = "text") -> Callable[[yaml.Node], str]:
    """Return a reader of text without control characters. The whole of it has to match the pattern, if one is given."""

    def read(node: yaml.Node) -> str:
        if _kind(node) != "text":
            quotes = ": put it in quotes" if isinstance(node, yaml.ScalarNode) else ""
            raise InvalidValue(f"expected {expected}, not {_kind(node)}{quotes}")
        value: str = node.value
        if without_controls(value) != value:
            raise InvalidValue("contains control characters")
        if not value or len(value) > TEXT_LENGTH_LIMIT or (matching and not matching.fullmatch(value)):
            raise InvalidValue(f"expected {expected}")
        return value

    return read


def choice(*options: Choice) -> Callable[[yaml.Node], Choice]:
    expected = f"{', '.join(options[:-1])} or {options[-1]}"

    def read(node: yaml.Node) -> Choice:
        for option in options:
            if _kind(node) == "text" and node.value == option:
                return option
        raise _mismatch(expected, node, "text")

    return read


def duration_s(node: yaml.Node) -> float:
    expected = "a duration such as 500ms, 10s, 5m or 1h30m"
    match = _DURATION.fullmatch(node.value) if _kind(node) == "text" else None
    if match is None or not match[0]:
        raise _mismatch(expected, node, "text")
    counts = zip(match.groups(), _MILLISECONDS_BY_UNIT.values(), strict=True)
    return sum(int(count or 0) * milliseconds for count, milliseconds in counts) / 1000


def size_bytes(*, least: int, most: int) -> Callable[[yaml.Node], int]:
    expected = f"a size from {_size_word(least)} to {_size_word(most)} such as 8MiB"

    def read(node: yaml.Node) -> int:
        match = _SIZE.fullmatch(node.value) if _kind(node) == "text" else None
        size = int(match[1]) * _BYTES_BY_UNIT[match[2]] if match else None
        if size is None or not least <= size <= most:
            raise _mismatch(expected, node, "text")
        return size

    return read


def _size_word(size: int) -> str:
    unit, count = next((unit, count) for unit, count in reversed(_BYTES_BY_UNIT.items()) if size % count == 0)
    return f"{size // count}{unit}"


def _mismatch(expected: str, node: yaml.Node, right_kind: str) -> InvalidValue:
    kind = _kind(node)
    return InvalidValue(f"expected {expected}" if kind == right_kind else f"expected {expected}, not {kind}")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return "text"
    if _NULL.fullmatch(node.value):
        return "null"
    if node.value.lower() in _BOOLEAN_BY_WORD:
        return "true or false"
    return "a number" if _NUMBER.fullmatch(node.value) else "text"


def _null(node: yaml.Node) -> bool:
    """Return whether a node counts as not given: null, or already reported as unusable."""
    return node.tag == _REJECTED_TAG or _kind(node) == "null"


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line + 1


class _Composer(yaml.BaseLoader):
    """PyYAML's composer without aliases, anchors and tags, which this format doesn't need: they are noted and ignored."""

    def __init__(self, stream: io.StringIO, notes: _Notes) -> None:
        super().__init__(stream)
        self._notes = notes
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # not in PyYAML's stubs
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]  # not in the stubs
            self._notes.note(line, f"line {line}: aliases are not supported")
            return yaml.ScalarNode(_REJECTED_TAG, "", event.start_mark, event.end_mark)
        if event.anchor is not None:
            self._notes.note(line, f"line {line}: anchors are not supported")
            event.anchor = None
        if event.tag is not None:
            self._notes.note(line, f"line {line}: tags are not supported")
            event.tag = None
        if self._depth >= DEPTH_LIMIT:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _compose(text: str, notes: _Notes) -> yaml.Node | None:
    """Return the root node. Note what is not YAML in PyYAML's words, without those that could quote the text."""
    if len(text.encode("utf-8", "surrogatepass")) > SIZE_LIMIT:
        notes.note(0, "the file: more than 1 MiB")
        return None
    try:
        # A stream, because PyYAML's marks in a string hold a copy of the line.
        node: yaml.Node | None = _Composer(io.StringIO(text), notes).get_single_node()
    except yaml.MarkedYAMLError as error:
        notes.note(*_syntax_problem(error))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        notes.note(line, f"line {line}: not valid YAML: a control character or one that can't be encoded")
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML computes escapes and version numbers without a check: "\UFFFFFFFF" raises ValueError.
        notes.note(0, "the file: not valid YAML: an escape or a number beyond what is possible")
    else:
        return node
    return None


def _syntax_problem(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    words = f"not valid YAML: {_QUOTE.sub(_safe_quote, error.problem or 'unknown')}"
    if error.problem_mark is None:
        return 0, f"the file: {words}"
    line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
    return line, f"line {line}, column {column}: {words}"


def _safe_quote(quote: re.Match[str]) -> str:
    """Keep what PyYAML quotes of its own, single characters and `<tokens>`. Drop what it quotes from the text."""
    return quote[0] if len(quote[1]) <= len(r"\x00") or quote[1].startswith("<") else "…"
