"""What the pages are made of. They work without JavaScript and fit a phone.

Text becomes part of a page only through `tag`, which escapes it, because names and messages come from elsewhere. The style is
the only file that is read, once, at import.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from typing import Final

STYLE: Final = files("exporter.web").joinpath("page.css").read_text(encoding="utf-8")
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""The pages' Content-Security-Policy: this style and nothing else."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """Return an element. Children are escaped unless they are markup; `class_` is `class` and `data_label` `data-label`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    content = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{name}{written}>{content}</{name}>")


def document(title: str, *body: str) -> str:
    """Return a whole page."""
    head = Markup(
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
    )
    return f"<!doctype html>{tag('html', head, tag('body', *body), lang='en')}\n"


def span(seconds: float) -> str:
    """Write a duration in the one or two largest units that it has."""
    whole = round(max(0.0, seconds))
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"
