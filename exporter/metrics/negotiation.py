"""What a scraper's `Accept` and `Accept-Encoding` ask for, in words that the library's encoders know. Pure.

The library takes the first format it knows, whatever the preferences are, and breaks on a version that is no number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN = ""
"""The text format in its oldest version, which every scraper reads."""
KNOWN_VERSIONS: Mapping[str, frozenset[str]] = {
    "application/openmetrics-text": frozenset({"", "1.0.0"}),
    "text/plain": frozenset({"", "0.0.4", "1.0.0"}),
    "text/*": frozenset({""}),
    "*/*": frozenset({""}),
}
QUALITY = re.compile(r"(0(\.[0-9]{0,3})?|1(\.0{0,3})?)\Z")


@dataclass(frozen=True, slots=True)
class _Offer:
    kind: str
    parameters: Mapping[str, str]

    @property
    def quality(self) -> float:
        given = self.parameters.get("q", "1")
        return float(given) if QUALITY.match(given) else 1.0


def preferred_format(accept: str) -> str:
    """Return the format to answer in, as an `Accept` of one offer: the most preferred one that is known, else PLAIN."""
    offers = sorted(_offers(accept), key=lambda offer: -offer.quality)
    for offer in offers:
        version = offer.parameters.get("version", "")
        if offer.quality > 0 and version in KNOWN_VERSIONS.get(offer.kind, ()):
            return _as_accept(offer, version)
    return PLAIN


def prefers_json(accept: str) -> bool:
    """Tell whether JSON is asked for rather than a page."""
    quality_by_kind = {offer.kind: offer.quality for offer in _offers(accept)}
    return quality_by_kind.get("application/json", 0.0) > quality_by_kind.get("text/html", 0.0)


@lru_cache(16)  # a scraper sends the same header for ever
def takes_gzip(accept_encoding: str) -> bool:
    return any(offer.kind == "gzip" and offer.quality > 0 for offer in _offers(accept_encoding))


def _as_accept(offer: _Offer, version: str) -> str:
    if offer.kind == "application/openmetrics-text" or version == "1.0.0":
        escaping = offer.parameters.get("escaping", "underscores")
        return f"{offer.kind};version=1.0.0;escaping={escaping}" if version else offer.kind
    return PLAIN


def _offers(header: str) -> list[_Offer]:
    return [_offer(text) for text in header.lower().split(",")]


def _offer(text: str) -> _Offer:
    kind, *parameters = (part.strip() for part in text.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return _Offer(kind, {name.strip(): value.strip().strip('"') for name, _, value in pairs})
