"""Bytes of one scrape: the snapshots' families and the exporter's own, negotiated and compressed. Pure."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exporter import metrics

GZIP_LEVEL = 6
"""Level 9 costs four times as much for a tenth of the size."""


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

    def __init__(self, families: Iterable[metrics.MetricFamily]) -> None:
        self._families = list(families)

    def collect(self) -> list[metrics.MetricFamily]:
        return self._families

    def describe(self) -> list[metrics.MetricFamily]:
        return self._families


class _Together:
    """Several registries as one."""

    def __init__(self, registries: Iterable[Any]) -> None:
        self._registries = list(registries)

    def collect(self) -> Iterator[Any]:
        for registry in self._registries:
            yield from registry.collect()


def expose(families: Iterable[metrics.MetricFamily], own: CollectorRegistry | None, wanted: Wanted) -> Exposition:
    """Render the environments' families, and the exporter's own metrics where `own` is given."""
    of_environments = CollectorRegistry()
    of_environments.register(_Families(families))
    registries: list[Any] = [of_environments] if own is None else [of_environments, own]
    if wanted.names:
        registries = [registry.restricted_registry(wanted.names) for registry in registries]
    encode, content_type = choose_encoder(wanted.accept)
    body = encode(_Together(registries))
    if _takes_gzip(wanted.accept_encoding):
        return Exposition(gzip.compress(body, GZIP_LEVEL, mtime=0), content_type, "gzip")
    return Exposition(body, content_type, None)


def _takes_gzip(accept_encoding: str) -> bool:
    for offer in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in offer.split(";"))
        if coding == "gzip":
            return not any(_is_zero(parameter) for parameter in parameters)
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip() in {"0", "0.0", "0.00", "0.000"}
