"""Bytes of one scrape: the snapshots' families and the exporter's own, negotiated and compressed. Pure.

The library's encoders check every label of every series: 12 µs a series as text, 19 µs as OpenMetrics, which Prometheus asks
for; 1.7 s for 1,000 environments. So the environments' part is written here, with every constant piece of a line made once,
and the library's encoders write the rest, and all of it where somebody asks for some names only or for another escaping.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from exporter.metrics import catalogue
from exporter.metrics.negotiation import preferred_format, takes_gzip
from exporter.metrics.series import exemplar_labels, go_string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from exporter.listing.tally import Exemplar, HistogramView
    from exporter.metrics.catalogue import Metric
    from exporter.metrics.series import Families, MetricFamily

    _Value = tuple[str, tuple[str, ...], float, Exemplar | None] | tuple[str, HistogramView]
    """What a row or a histogram shows, behind the labels of its environment."""

GZIP_LEVEL = 3
"""Level 6, the usual one, takes two and a half times as long, on the scrape's critical path, for 8 % less."""
EXPONENTS_FROM = 1_000_000
"""Where Go begins to write exponents."""
ENVIRONMENT_MARK = "\0"
GZIP_WINDOW, GZIP_MEMORY_LEVEL = 29, 6
"""zlib's numbers for a window of 8 KiB in a gzip envelope, and for tables that fit it. Lines that are alike stand near each other, so a larger
one makes nothing smaller; and to set it up costs more than to compress what one environment shows.
"""
PIECE_LENGTH = 64 * 1024
KINDS_OF_LINES = 256
"""How many constant parts of lines are remembered: all, unless there are very many workspaces."""
NEGOTIATIONS = 16
"""How many `Accept` headers are remembered: a scraper sends the same one for ever."""


@dataclass(frozen=True, slots=True)
class Exposition:
    body: bytes
    content_type: str
    encoding: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the scraper's request asks for. `names`: only these series, where there are any."""

    accept: str = ""
    accept_encoding: str = ""
    names: Sequence[str] = ()


class _Families:
    """A collector of families that are there already; it lives for one scrape."""

    def __init__(self, families: Iterable[MetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> list[MetricFamily]:
        return self._families

    def describe(self) -> list[MetricFamily]:
        return self._families


class _Together:
    """Several registries as one."""

    def __init__(self, registries: Iterable[Any]) -> None:
        self._registries = list(registries)

    def collect(self) -> Iterator[Any]:
        for registry in self._registries:
            yield from registry.collect()


class _GoStrings(dict[float, str]):
    """Numbers as Prometheus writes them. Most of a scrape's are equal to others of it."""

    def __missing__(self, number: float) -> str:
        # Go and Python write these alike; ages and durations are such, and differ from one another.
        alike = -EXPONENTS_FROM < number < EXPONENTS_FROM
        text = self[number] = repr(float(number)) if alike else go_string(number)
        return text


class _Text:
    """Writes families line by line, as the library does: `sorted` labels, histograms as buckets, count and sum."""

    def __init__(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._number = _GoStrings()

    def write(self, families: Families) -> Iterator[bytes]:
        """Yield the families, one after the other, in pieces of some size."""
        # The values of all environments are a fifth of their text, so nobody holds more than a piece of that.
        values_by_name: dict[str, list[_Value]] = defaultdict(list)
        for environment, rows, histograms, exemplars in families.series():
            of = _labels({"environment_id": environment.id, "environment_name": environment.name})
            for metric, labels, value in rows:
                exemplar = exemplars.get(labels) if metric is catalogue.WORK_FINISHED else None
                values_by_name[metric.name].append((of, labels, value, exemplar))
            for metric, histogram in histograms:
                values_by_name[metric.name].append((of, histogram))
        return _in_pieces(self._texts(values_by_name))

    def _texts(self, values_by_name: dict[str, list[_Value]]) -> Iterator[str]:
        for metric in catalogue.CATALOGUE:
            values = values_by_name.pop(metric.name, None)
            if values is not None:
                yield _head(metric, openmetrics=self._openmetrics)
                yield from (self._text(metric, value) for value in values)

    def _text(self, metric: Metric, value: _Value) -> str:
        match value:
            case of, labels, number, exemplar:
                return self._line(metric, of, labels, number, exemplar)
            case of, histogram:
                return self._histogram(metric.name, of, histogram)

    def _line(self, metric: Metric, of: str, labels: tuple[str, ...], value: float, exemplar: Exemplar | None) -> str:
        before, after = _constant_pieces(metric.name, metric.labels, labels)
        return f"{before}{of}{after}{self._number[value]}{self._exemplar(exemplar)}\n"

    def _histogram(self, name: str, of: str, histogram: HistogramView) -> str:
        # All lines at once, because most lines of a scrape are a histogram's.
        number = self._number
        numbers = [number[count] for count in histogram.cumulative_counts]
        if self._openmetrics and histogram.exemplars:
            numbers = [each + self._exemplar(of_it) for each, of_it in zip(numbers, histogram.exemplars, strict=True)]
        lines = _histogram_template(name, histogram.bounds_s).replace(ENVIRONMENT_MARK, of.replace("%", "%%"))
        return lines % (*numbers, number[histogram.count], number[histogram.sum_s])

    def _exemplar(self, exemplar: Exemplar | None) -> str:
        if exemplar is None or not self._openmetrics:
            return ""
        labels = exemplar_labels(exemplar)
        return f" # {{{_labels(labels)}}} {self._number[exemplar.value]} {exemplar.at}" if labels else ""


def expose(families: Families, own: CollectorRegistry | None, wanted: Wanted) -> Exposition:
    """Render the environments' families, and the exporter's own metrics where `own` is given."""
    encode, content_type = _negotiated(wanted.accept)
    _, _, escaping = content_type.partition("escaping=")
    if wanted.names or escaping not in {"", "underscores", "allow-utf-8"}:
        parts = iter([encode(_restricted(families, own, wanted.names))])
    else:
        openmetrics = content_type.startswith("application/openmetrics-text")
        own_part = encode(CollectorRegistry() if own is None else own)
        parts = chain(_Text(openmetrics=openmetrics).write(families), [own_part])
    if takes_gzip(wanted.accept_encoding):
        return Exposition(_compressed(parts), content_type, "gzip")
    return Exposition(b"".join(parts), content_type, None)


@lru_cache(NEGOTIATIONS)
def _negotiated(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """Return the library's encoder and its content type."""
    encode, content_type = choose_encoder(preferred_format(accept))
    return encode, content_type


def _in_pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Join small texts: 90,000 of them at once would leave the process larger for good, and so would the whole of them."""
    held: list[str] = []
    length = 0
    for text in texts:
        held.append(text)
        length += len(text)
        if length >= PIECE_LENGTH:
            yield "".join(held).encode()
            held.clear()
            length = 0
    yield "".join(held).encode()


@lru_cache(KINDS_OF_LINES)
def _head(metric: Metric, *, openmetrics: bool) -> str:
    name = metric.family if openmetrics else metric.name
    text = metric.help.replace("\\", r"\\").replace("\n", r"\n")
    text = text.replace('"', r"\"") if openmetrics else text
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n"


@lru_cache(KINDS_OF_LINES)
def _constant_pieces(name: str, names: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, str]:
    """Return what stands in a line before the environment's labels and after them; `values`: of the labels that follow these."""
    more_names = names[len(catalogue.ENVIRONMENT_LABELS) :]
    more = "".join(f",{_labels({each: value})}" for each, value in sorted(zip(more_names, values, strict=True)))
    return f"{name}{{", f"{more}}} "


@lru_cache(KINDS_OF_LINES)
def _histogram_template(name: str, bounds_s: tuple[float, ...]) -> str:
    """Make the lines of a histogram, with a mark for the environment's labels and a %s for each number."""
    bounds = [*map(go_string, bounds_s), "+Inf"]
    buckets = [f'{name}_bucket{{{ENVIRONMENT_MARK},le="{bound}"}} %s\n' for bound in bounds]
    totals = [f"{name}_{total}{{{ENVIRONMENT_MARK}}} %s\n" for total in ("count", "sum")]
    return "".join(buckets + totals)


def _compressed(parts: Iterable[bytes]) -> bytes:
    """Compress part by part: nobody ever holds the whole text."""
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW, GZIP_MEMORY_LEVEL)
    return b"".join([*map(compressor.compress, parts), compressor.flush()])


def _restricted(families: Families, own: CollectorRegistry | None, names: Sequence[str]) -> _Together:
    of_environments = CollectorRegistry()
    of_environments.register(_Families(families))
    registries: list[Any] = [of_environments] if own is None else [of_environments, own]
    return _Together(registry.restricted_registry(names) for registry in registries) if names else _Together(registries)


def _labels(value_by_name: dict[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(value_by_name.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
