"""What is written without the library is, byte for byte, what the library would have written."""

from __future__ import annotations

import gzip
import math
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from exporter.api.wire import LIVE_STATES, State, WorkStats
from exporter.environments.snapshot import Environment, Queue, ReadTimes, Snapshot, Work
from exporter.listing.ledger import Listing
from exporter.listing.tally import Exemplar, HistogramView, TallyView
from exporter.metrics.exposition import Wanted, expose
from exporter.metrics.series import Families, families_of

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ACCEPTED = ("", "text/plain", "*/*", "text/plain;version=1.0.0;escaping=underscores", PROMETHEUS_3)
OPENMETRICS = ("application/openmetrics-text", "application/openmetrics-text;version=1.0.0;escaping=underscores")
OTHER_ESCAPINGS = tuple(
    f"{kind};version=1.0.0;escaping={escaping}"
    for kind in ("text/plain", "application/openmetrics-text")
    for escaping in ("dots", "values")
)
NOW = 1_000.0

seconds = st.floats(min_value=0, max_value=1e12, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**12)
times = st.builds(ReadTimes, read_at=seconds, server_at=seconds, monotonic_at=seconds, duration_s=seconds)
texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ['quoted "name"', "back\\slash", "two\nlines", "ünïcode"]
)
environments = st.builds(
    Environment,
    id=st.from_regex(r"env_[A-Za-z0-9_]{1,20}", fullmatch=True),
    name=texts,
    worker_mode=st.sampled_from(["always_on", "webhook", "unknown"]),
    origin=st.sampled_from(["config", "discovery"]),
)
stats = st.builds(WorkStats, counts, counts, st.none() | seconds, st.none() | counts, st.booleans())
listings = st.builds(
    Listing,
    complete=st.just(value=True),
    count_by_state=st.fixed_dictionaries(dict.fromkeys(State, counts)),
    oldest_at_by_state=st.fixed_dictionaries(dict.fromkeys(LIVE_STATES, st.none() | seconds)),
    heartbeats=st.lists(seconds, max_size=3).map(sorted).map(tuple),
    oldest_read_at=st.none() | seconds,
)


exemplars = st.builds(
    Exemplar,
    work_id=texts.filter(bool) | st.just("w" * 121) | st.just("w" * 122),
    session_id=st.none() | texts | st.just("s" * 100),
    value=seconds,
    at=seconds,
)


@st.composite
def histograms(draw: st.DrawFn) -> HistogramView:
    bounds = draw(st.lists(st.floats(0.001, 1e9), max_size=4, unique=True).map(sorted))
    observed = draw(st.lists(st.integers(0, 10**6), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    of_buckets = st.lists(st.none() | exemplars, min_size=len(observed), max_size=len(observed)).map(tuple)
    return HistogramView(tuple(bounds), tuple(accumulate(observed)), draw(seconds), draw(st.just(()) | of_buckets))


tallies = st.builds(
    TallyView,
    created=counts,
    acknowledged_in_time=counts,
    finished_by_outcome=st.fixed_dictionaries(dict.fromkeys(("ran", "never_started", "never_acknowledged"), counts)),
    queue_wait=histograms(),
    startup=histograms(),
    run=histograms(),
    stop=histograms(),
    exemplar_by_outcome=st.dictionaries(st.sampled_from(["ran", "never_started"]), exemplars),
)
snapshots = st.builds(
    Snapshot,
    environment=environments,
    listing_enabled=st.booleans(),
    queue=st.none() | st.builds(Queue, stats, times),
    work=st.none() | st.builds(Work, listings, times),
    tally=st.none() | tallies,
)
several = st.lists(snapshots, max_size=3, unique_by=lambda snapshot: snapshot.environment.id)


class Library:
    """All families behind one `collect`, for the library to write."""

    def __init__(self, families: Families, own: CollectorRegistry) -> None:
        self._families = [*families, *own.collect()]

    def collect(self) -> list[Any]:
        return self._families


def own_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("own", "Of the exporter itself.", ["kind"], registry=registry).labels("a").inc(3)
    return registry


@given(several, st.sampled_from(ACCEPTED + OPENMETRICS + OTHER_ESCAPINGS), st.booleans())
def test_every_byte_is_the_librarys(shown: list[Snapshot], accept: str, with_exemplars: bool) -> None:  # noqa: FBT001 -- drawn
    families = families_of(shown, monotonic=NOW, heartbeat_overdue_s=90, exemplars=with_exemplars)
    own = own_registry()
    encode, content_type = choose_encoder(accept)
    written = expose(families, own, Wanted(accept=accept))
    assert written.body == encode(Library(families, own))
    assert written.content_type == content_type


@pytest.mark.parametrize("accept", [*ACCEPTED, *OPENMETRICS])
def test_without_environments_and_without_own_metrics_there_is_nothing(accept: str) -> None:
    families = families_of((), monotonic=NOW, heartbeat_overdue_s=90)
    body = expose(families, None, Wanted(accept=accept)).body
    assert body == (b"# EOF\n" if "openmetrics" in accept else b"")


def test_names_choose_series_of_both_kinds() -> None:
    shown = Snapshot(
        environment=Environment(id="env_1", name="one"), listing_enabled=True, queue=None, work=None, tally=None
    )
    families = families_of([shown], monotonic=NOW, heartbeat_overdue_s=90)
    body = expose(families, own_registry(), Wanted(names=["managed_agents_up", "own_total"])).body.decode()
    series = [line for line in body.splitlines() if not line.startswith("#")]
    assert series == ['managed_agents_up{environment_id="env_1",environment_name="one"} 0.0', 'own_total{kind="a"} 3.0']


def test_what_is_compressed_is_the_same() -> None:
    families = families_of((), monotonic=NOW, heartbeat_overdue_s=90)
    own = own_registry()
    plain = expose(families, own, Wanted())
    packed = expose(families, own, Wanted(accept_encoding="br, gzip;q=0.5"))
    assert (plain.encoding, packed.encoding) == (None, "gzip")
    assert gzip.decompress(packed.body) == plain.body


@given(several)
def test_no_sample_comes_twice_and_every_value_is_finite(shown: list[Snapshot]) -> None:
    families = families_of(shown, monotonic=NOW, heartbeat_overdue_s=90)
    body = expose(families, own_registry(), Wanted()).body.decode()
    samples = [sample for family in text_string_to_metric_families(body) for sample in family.samples]
    series = [(sample.name, *sorted(sample.labels.items())) for sample in samples]
    assert len(series) == len(set(series))
    assert all(math.isfinite(sample.value) for sample in samples)


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=abc", "text/plain;version=x", ",;=", "\udcff"]
)
def test_a_scraper_that_asks_for_the_impossible_gets_plain_text(accept: str) -> None:
    families = families_of((), monotonic=NOW, heartbeat_overdue_s=90)
    exposition = expose(families, own_registry(), Wanted(accept=accept))
    assert exposition.content_type == "text/plain; version=0.0.4; charset=utf-8"


def with_exemplar(work_id: str, session_id: str | None) -> Snapshot:
    exemplar = Exemplar(work_id, session_id, 1.5, 1_782_893_701.25)
    histogram = HistogramView((1.0, 2.0), (0, 1, 1), 1.5, (None, exemplar, None))
    none = HistogramView((1.0, 2.0), (0, 0, 0), 0.0)
    tally = TallyView(1, 1, {"ran": 1}, histogram, none, none, none, {"ran": Exemplar(work_id, session_id, 1.0, 7.0)})
    environment = Environment(id="env_1", name="one")
    return Snapshot(environment=environment, listing_enabled=True, queue=None, work=None, tally=tally)


def exemplars_of(shown: Snapshot, accept: str, *, exemplars: bool = True) -> list[str]:
    families = families_of([shown], monotonic=NOW, heartbeat_overdue_s=90, exemplars=exemplars)
    lines = expose(families, None, Wanted(accept=accept)).body.decode().splitlines()
    return [line.split(" # ")[1] for line in lines if " # " in line]


def test_a_bucket_and_an_outcome_name_their_latest_item_in_openmetrics_alone() -> None:
    shown = with_exemplar("work_1", "session_1")
    assert exemplars_of(shown, OPENMETRICS[0]) == [
        '{session_id="session_1",work_id="work_1"} 1.5 1782893701.25',
        '{session_id="session_1",work_id="work_1"} 1.0 7.0',
    ]
    assert exemplars_of(shown, "text/plain") == []
    assert exemplars_of(shown, OPENMETRICS[0], exemplars=False) == []


@pytest.mark.parametrize(
    ("work", "session", "names"),
    [
        (11, 100, ["session_id", "work_id"]),
        (12, 100, ["work_id"]),
        (121, None, ["work_id"]),
        (122, None, []),
    ],
)
def test_the_ids_of_an_exemplar_keep_to_the_limit_of_openmetrics(
    work: int, session: int | None, names: list[str]
) -> None:
    found = exemplars_of(with_exemplar("w" * work, None if session is None else "s" * session), OPENMETRICS[0])
    assert [name for name in ("session_id", "work_id") if found and f"{name}=" in found[0]] == names
