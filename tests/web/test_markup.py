"""What the pages are made of: text is escaped, and a time is written as somebody would say it."""

from __future__ import annotations

import pytest

from exporter.web.markup import Markup, document, span, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>&", Markup("<b>x</b>"), title='"') == '<p title="&quot;">&lt;b&gt;&amp;<b>x</b></p>'
    assert tag("td", class_="bad", data_label="A", href="") == '<td class="bad" data-label="A"></td>'


def test_a_document_escapes_its_title() -> None:
    text = document("<x>", tag("p", "y"))
    assert "<title>&lt;x&gt;</title>" in text
    assert text.startswith('<!doctype html><html lang="en"><head>')
    assert text.endswith("<body><p>y</p></body></html>\n")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_time_is_written_as_somebody_would_say_it(seconds: float, expected: str) -> None:
    assert span(seconds) == expected
