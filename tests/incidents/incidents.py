"""The incidents: who is there, what breaks when, and everything that anybody is notified of because of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tests.incidents.actions import (
    answer,
    behave,
    delete,
    drain,
    find_target,
    forget_target,
    hide_workers,
    hire,
    kill,
    lose_all_leases,
    lose_worker_that_stops,
    recover,
    reload_bad_configuration,
    replace_one,
    revoke,
    set_clock,
    show_unknown_state,
    start_exporter,
    stop_exporter,
)
from tests.incidents.laboratory import Event, Play
from tests.incidents.stage import API_KEY, Exporter, Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What happens, and everything that may be said of it: an alert that stands nowhere here must not fire.

    `begins`: the minute from which a person would call it an incident, and `page_by` the one at which somebody must have been
    paged; None: nobody may be. `ends`: the minute until which the trouble lasts; an alert that somebody got lasts as long, unless
    it is in `passing`. `may`: may come and go, as the refused calls have it, and must be muted. Alerts are written "name severity subject".
    """

    name: str
    title: str
    play: Play
    begins: float = 0
    page_by: float | None = None
    ends: float = 0
    notified: tuple[str, ...] = ()
    muted: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    may: tuple[str, ...] = ()


SHORT: Final = Site(name="short", arrival_s=15, workers=6)
LONG: Final = Site(name="long", arrival_s=240, workers=20, run_min=(20, 50))
TOO_SMALL: Final = Site(name="long", arrival_s=160, workers=8, run_min=(20, 50))
CALM: Final = Site(name="calm", arrival_s=60, workers=3)
UNREADABLE_EACH: Final = tuple(f"EnvironmentUnreadable warning {name}" for name in ("short", "calm", "long"))
UNREADABLE_LONG: Final = tuple(f"EnvironmentUnreadable critical {name}" for name in ("short", "calm", "long"))
OLD_AT_TIMES: Final = tuple(
    f"{alert} warning {name}" for alert in ("NumbersOld", "ListingIncomplete") for name in ("long", "calm")
)
FIRST, SECOND = "exporter-0:9831", "exporter-1:9831"


def _crash_loop(*, up_s: int, down_s: int, between: tuple[int, int]) -> tuple[Event, ...]:
    first, last = between
    ends = [first + round_ * (up_s + down_s) / 60 for round_ in range((last - first) * 60 // (up_s + down_s))]
    return tuple(event for end in ends for event in ((end, stop_exporter()), (end + down_s / 60, start_exporter())))


INCIDENTS: Final = (
    Incident(name="quiet", title="90 quiet minutes", play=Play(sites=(SHORT, LONG, CALM), minutes=90)),
    Incident(
        name="rolling",
        title="40 workers are restarted one after the other",
        play=Play(
            sites=(Site(name="fleet", arrival_s=3, workers=40, run_min=(0.5, 2.5)), CALM),
            minutes=40,
            events=tuple((10 + number / 4, replace_one("fleet")) for number in range(40)),
        ),
    ),
    Incident(
        name="killed",
        title="The whole fleet is killed",
        play=Play(sites=(SHORT, CALM), minutes=45, events=((10, kill("short")), (35, hire("short", 6)))),
        begins=10,
        page_by=15,
        ends=35,
        notified=(
            "NobodyPolling critical short",
            "BacklogAgeing warning short",
            "BacklogGrowing warning short",
            "WaitObjectiveMissed warning short",
        ),
        muted=("WorkersLeaving critical short",),
    ),
    Incident(
        name="drained",
        title="The fleet is drained while long sessions go on",
        play=Play(sites=(LONG, CALM), minutes=120, events=((50, drain("long")),)),
        # Two sessions had ended without a next one at minute 59.
        begins=59,
        page_by=64,
        ends=120,
        notified=("WorkersLeaving critical long", "BacklogAgeing critical long", "NobodyPolling critical long"),
        muted=("BacklogAgeing warning long",),
    ),
    Incident(
        name="too_small_8_of_12",
        title="8 workers where 12 are needed",
        play=Play(sites=(TOO_SMALL, CALM), minutes=180),
        # An hour with more than 72 % of its items too late, or one item that waits for half an hour.
        begins=48,
        page_by=53,
        ends=180,
        notified=(
            "BacklogAgeing warning long",
            "WorkersSaturated warning long",
            "BacklogAgeing critical long",
            "WaitObjectiveMissed critical long",
        ),
        muted=("WaitObjectiveMissed warning long",),
    ),
    Incident(
        name="too_small_20_of_31",
        title="20 workers where 31 are needed",
        play=Play(sites=(Site(name="long", arrival_s=68, workers=20, run_min=(20, 50)), CALM), minutes=150),
        # An hour with more than 72 % of its items too late.
        begins=66,
        page_by=71,
        ends=150,
        notified=(
            "BacklogAgeing warning long",
            "WorkersSaturated warning long",
            "WaitObjectiveMissed critical long",
            "BacklogAgeing critical long",
        ),
        muted=("WaitObjectiveMissed warning long", "BacklogGrowing warning long"),
        passing=("BacklogAgeing warning long",),
    ),
    Incident(
        name="bad_deploy",
        title="Bad deployment: every item is acknowledged, and its worker dies",
        play=Play(
            sites=(SHORT, CALM),
            minutes=45,
            events=((10, behave("short", quits_before_start=1.0)), (35, behave("short", quits_before_start=0.0))),
        ),
        begins=10,
        page_by=15,
        ends=35,
        notified=(
            "NothingStarts critical short",
            "StuckStarting warning short",
            "StoppedWithoutStarting warning short",
        ),
    ),
    Incident(
        name="ends_at_once",
        title="Bad deployment: every session ends with its first beat",
        play=Play(
            sites=(SHORT, CALM),
            minutes=70,
            events=((40, behave("short", run_s=(0.1, 0.4))), (60, behave("short", run_s=(12.0, 48.0)))),
        ),
        begins=40,
        page_by=45,
        ends=60,
        notified=("RunsEndAtOnce critical short",),
    ),
    Incident(
        name="never_acknowledged",
        title="Every item is claimed and never acknowledged",
        play=Play(
            sites=(SHORT, CALM),
            minutes=45,
            events=((10, behave("short", acknowledges=False)), (35, behave("short", acknowledges=True))),
        ),
        begins=10,
        page_by=15,
        ends=35,
        notified=(
            "ClaimedNotAcknowledged critical short",
            "BacklogAgeing warning short",
            "WaitObjectiveMissed warning short",
        ),
        muted=("ClaimedNotAcknowledged warning short",),
    ),
    Incident(
        name="one_worker_lost",
        title="One worker is lost with its session",
        play=Play(sites=(LONG, CALM), minutes=80, events=((50, kill("long", 1)), (51, hire("long", 1)))),
        ends=80,
        notified=("HeartbeatsOverdue warning long",),
    ),
    Incident(
        name="all_leases_lost",
        title="All leases are lost",
        play=Play(sites=(LONG, CALM), minutes=80, events=((50, lose_all_leases("long")),)),
        begins=50,
        page_by=55,
        ends=80,
        notified=("HeartbeatsOverdue critical long",),
        muted=("HeartbeatsOverdue warning long",),
    ),
    Incident(
        name="api_key_revoked",
        title="The API key is revoked, every environment has a key that works",
        play=Play(
            sites=(SHORT, CALM), exporters=(Exporter(discovery=True),), minutes=60, events=((10, revoke(API_KEY)),)
        ),
        ends=60,
        notified=("DiscoveryFailing warning auth",),
    ),
    Incident(
        name="environment_key_revoked",
        title="One environment's key is revoked",
        play=Play(sites=(SHORT, CALM), minutes=60, events=((10, revoke(SHORT.key)),)),
        ends=60,
        notified=("CredentialsRejected warning short",),
        muted=("ListingIncomplete warning short",),
    ),
    Incident(
        name="deleted",
        title="One environment is deleted",
        play=Play(sites=(SHORT, CALM, LONG), minutes=60, events=((10, delete("short")),)),
        ends=60,
        notified=("EnvironmentNotFound warning short",),
    ),
    Incident(
        name="one_529",
        title="One environment answers 529 for hours",
        play=Play(
            sites=(SHORT, CALM, LONG),
            minutes=120,
            events=((10, answer(529, site="calm", retry_after_s=30)), (110, recover())),
        ),
        # One environment of three: a warning, and a page when it has been blind for half an hour.
        begins=39,
        page_by=41,
        ends=110,
        notified=("EnvironmentUnreadable warning calm", "EnvironmentUnreadable critical calm"),
    ),
    Incident(
        name="outage_500",
        title="The vendor answers 500 for 50 minutes",
        play=Play(sites=(SHORT, CALM, LONG), minutes=80, events=((10, answer(500)), (60, recover()))),
        begins=10,
        page_by=15,
        ends=60,
        notified=("ApiUnavailable critical",),
        muted=UNREADABLE_EACH + UNREADABLE_LONG,
    ),
    Incident(
        name="outage_529_20",
        title="The vendor answers 529 for 20 minutes",
        play=Play(sites=(SHORT, CALM, LONG), minutes=50, events=((10, answer(529, retry_after_s=30)), (30, recover()))),
        begins=10,
        page_by=15,
        ends=30,
        notified=("ApiUnavailable critical",),
        muted=UNREADABLE_EACH,
    ),
    Incident(
        name="outage_529_50",
        title="The vendor answers 529 for 50 minutes",
        play=Play(sites=(SHORT, CALM, LONG), minutes=80, events=((10, answer(529, retry_after_s=30)), (60, recover()))),
        begins=10,
        page_by=15,
        ends=60,
        notified=("ApiUnavailable critical",),
        muted=UNREADABLE_EACH + UNREADABLE_LONG,
    ),
    Incident(
        name="limited_30",
        title="429 for 30 % of the calls, with workers busy in long sessions",
        play=Play(
            sites=(TOO_SMALL, CALM),
            minutes=120,
            events=((50, answer(429, share=0.3, retry_after_s=20)), (110, recover())),
        ),
        begins=48,
        page_by=53,
        ends=110,
        notified=(
            "BacklogAgeing warning long",
            "WorkersSaturated warning long",
            "BacklogAgeing critical long",
            "WaitObjectiveMissed critical long",
            "RateLimited warning",
        ),
        muted=("WaitObjectiveMissed warning long",),
        may=OLD_AT_TIMES,
    ),
    Incident(
        name="limited_80",
        title="429 for 80 % of the calls, with workers busy in long sessions",
        play=Play(
            sites=(TOO_SMALL, CALM),
            minutes=120,
            events=((50, answer(429, share=0.8, retry_after_s=20)), (110, recover())),
        ),
        # The API lets so little through that the exporter learns late, and what it cannot read comes and goes.
        begins=48,
        page_by=73,
        ends=110,
        notified=(
            "BacklogAgeing warning long",
            "WorkersSaturated warning long",
            "BacklogAgeing critical long",
            "RateLimited warning",
            "WaitObjectiveMissed critical long",
        ),
        muted=("WaitObjectiveMissed warning long",),
        may=OLD_AT_TIMES,
    ),
    Incident(
        name="list_fails",
        title="The list fails, the statistics are fine",
        play=Play(sites=(SHORT, CALM), minutes=60, events=((10, answer(500, call="list")), (55, recover()))),
        ends=55,
        notified=("ListingIncomplete warning calm", "ListingIncomplete warning short"),
    ),
    Incident(
        name="discovery_refused",
        title="Discovery is refused for two hours",
        play=Play(
            sites=(SHORT, CALM),
            exporters=(Exporter(discovery=True),),
            minutes=150,
            events=((10, answer(403, call="environments")), (130, recover())),
        ),
        ends=130,
        notified=("DiscoveryFailing warning auth",),
    ),
    Incident(
        name="one_workspace_refused",
        title="Discovery is refused in one workspace of three, and fails once in all of them",
        play=Play(
            sites=tuple(replace(each, workspace_id=f"wrkspc_{each.name}") for each in (SHORT, CALM, LONG)),
            exporters=(Exporter(discovery=True, workspaces=("wrkspc_short", "wrkspc_calm", "wrkspc_long")),),
            minutes=130,
            events=(
                (3, answer(500, call="environments")),
                (7, recover()),
                (50, answer(403, call="environments", workspace_id="wrkspc_calm")),
                (110, recover()),
            ),
        ),
        ends=110,
        notified=("DiscoveryFailing warning wrkspc_calm",),
    ),
    Incident(
        name="clock_ahead",
        title="The exporter's clock is 3 minutes ahead",
        play=Play(sites=(SHORT, CALM), minutes=60, events=((10, set_clock(180)),)),
        ends=60,
        notified=("ClockOffset warning",),
    ),
    Incident(
        name="clock_behind",
        title="The exporter's clock is 3 minutes behind, then jumps to and fro",
        play=Play(
            sites=(SHORT, CALM),
            minutes=60,
            events=((10, set_clock(-180)), *((minute, set_clock(-180 * (minute % 2))) for minute in range(30, 50))),
        ),
        ends=50,
        notified=("ClockOffset warning",),
    ),
    Incident(
        name="restart_during_incident",
        title="The exporter is restarted while the fleet is gone",
        play=Play(
            sites=(SHORT, CALM),
            minutes=45,
            events=((10, kill("short")), (20, stop_exporter()), (20.6, start_exporter())),
        ),
        begins=10,
        page_by=15,
        ends=45,
        notified=("NobodyPolling critical short",),
        muted=(
            "WorkersLeaving critical short",
            "BacklogAgeing warning short",
            "BacklogGrowing warning short",
            "BacklogAgeing critical short",
        ),
    ),
    Incident(
        name="killed_once",
        title="The exporter is killed for memory once",
        play=Play(sites=(SHORT, LONG), minutes=60, events=((20, stop_exporter()), (20.4, start_exporter()))),
    ),
    Incident(
        name="crash_loop_slow",
        title="The exporter crashes again and again: 2 minutes down, 1 minute up",
        play=Play(sites=(SHORT, CALM), minutes=60, events=_crash_loop(up_s=60, down_s=120, between=(10, 50))),
        begins=10,
        page_by=15,
        ends=50,
        notified=("ExporterDown critical", "ExporterRestarting warning exporter-0:9831"),
    ),
    Incident(
        name="crash_loop_fast",
        title="The exporter crashes again and again: 30 seconds down, 30 seconds up",
        play=Play(sites=(SHORT, CALM), minutes=60, events=_crash_loop(up_s=30, down_s=30, between=(10, 50))),
        ends=50,
        notified=("ExporterRestarting warning exporter-0:9831",),
    ),
    Incident(
        name="one_of_two_down",
        title="One of two exporters with different environments is down",
        play=Play(
            sites=(SHORT, CALM),
            exporters=(Exporter(instance=FIRST, sites=("short",)), Exporter(instance=SECOND, sites=("calm",))),
            minutes=60,
            events=((10, stop_exporter(FIRST)), (50, start_exporter(FIRST))),
        ),
        begins=10,
        page_by=15,
        ends=50,
        notified=("EnvironmentsUnwatched critical",),
        muted=("ReplicaDown warning exporter-0:9831",),
    ),
    Incident(
        name="replica_down",
        title="One of two replicas is down",
        play=Play(
            sites=(SHORT, CALM),
            exporters=(Exporter(instance=FIRST), Exporter(instance=SECOND)),
            minutes=60,
            events=((10, stop_exporter(FIRST)), (50, start_exporter(FIRST))),
        ),
        ends=50,
        notified=("ReplicaDown warning exporter-0:9831",),
    ),
    Incident(
        name="vanished",
        title="The exporter vanishes from the scrape configuration",
        play=Play(sites=(SHORT, CALM), minutes=40, events=((10, forget_target()),)),
        # The look-back of 5 min begins with the last scrape.
        begins=10,
        page_by=15,
        ends=40,
        notified=("EnvironmentsUnwatched critical",),
        muted=("ExporterMissing critical",),
    ),
    Incident(
        name="other_shard",
        title="The Prometheus of two that does not scrape the exporter, without the rules of absent.yml",
        play=Play(
            sites=(SHORT, CALM),
            minutes=40,
            events=((0, forget_target()), (10, kill("short"))),
            rule_files=frozenset({"alerts.yml", "objectives.yml", "recording.yml"}),
        ),
    ),
    Incident(
        name="prometheus_away",
        title="Prometheus is away for 20 minutes",
        play=Play(sites=(SHORT, LONG), minutes=70, prometheus_away=(20, 40)),
    ),
    Incident(
        name="many_down",
        title="200 environments, and the vendor goes down",
        play=Play(
            sites=tuple(Site(name=f"site{number:03d}", arrival_s=600, workers=1) for number in range(200)),
            exporters=(Exporter(requests_per_minute=2000),),
            minutes=36,
            every=4,
            events=((5, answer(500)),),
            groups=frozenset({"managed-agents-reading"}),
        ),
        begins=5,
        page_by=10,
        ends=36,
        notified=("ApiUnavailable critical",),
        muted=("EnvironmentUnreadable warning 200 environments", "EnvironmentUnreadable critical 200 environments"),
    ),
    Incident(
        name="unknown_state",
        title="An unknown state appears",
        play=Play(sites=(LONG, CALM), minutes=60, events=((30, show_unknown_state("long")),)),
        ends=60,
        notified=("SchemaDrift info state",),
    ),
    Incident(
        name="webhook_wakes_slowly",
        title="A fleet that a webhook wakes takes three minutes to wake, then does not wake",
        play=Play(
            sites=(
                Site(
                    name="hooks",
                    arrival_s=1200,
                    workers=3,
                    run_min=(3, 8),
                    worker_mode="webhook",
                    scene={"wake_s": (150.0, 210.0)},
                ),
                CALM,
            ),
            minutes=150,
            events=((110, behave("hooks", wake_s=(9000.0, 9000.0))),),
        ),
        # By then the first item that nobody takes has waited for two and a half times the objective.
        begins=119,
        page_by=124,
        ends=150,
        notified=("NobodyPolling critical hooks",),
        muted=("WorkersUnknown info hooks", "BacklogAgeing warning hooks", "BacklogAgeing critical hooks"),
    ),
    Incident(
        name="one_of_two_unreadable",
        title="One environment of two is not answered in time",
        play=Play(sites=(SHORT, CALM), minutes=60, events=((10, answer("timeout", site="short")), (50, recover()))),
        begins=39,
        page_by=41,
        ends=50,
        notified=("EnvironmentUnreadable warning short", "EnvironmentUnreadable critical short"),
    ),
    Incident(
        name="exporter_replaced",
        title="The exporter is replaced by one at another address, which is there a minute later",
        play=Play(
            sites=(SHORT, CALM),
            exporters=(Exporter(instance=FIRST), Exporter(instance=SECOND)),
            minutes=60,
            events=(
                (0, stop_exporter(SECOND)),
                (0, forget_target(SECOND)),
                (20, stop_exporter(FIRST)),
                (20, forget_target(FIRST)),
                (21, start_exporter(SECOND)),
                (21, find_target(SECOND)),
            ),
        ),
    ),
    Incident(
        name="killed_then_unlisted",
        title="The whole fleet is killed, and 10 minutes later the list fails too",
        play=Play(
            sites=(SHORT, CALM),
            minutes=60,
            events=((10, kill("short")), (20, answer(500, call="list")), (50, recover())),
        ),
        begins=10,
        page_by=15,
        ends=60,
        notified=("NobodyPolling critical short",),
        muted=(
            "BacklogAgeing warning short",
            "BacklogAgeing critical short",
            "BacklogGrowing warning short",
            "WorkersLeaving critical short",
            "WorkersSaturated warning short",
            "NobodyPolling warning short",
        ),
    ),
    Incident(
        name="bad_deploy_then_unlisted",
        title="Bad deployment: nothing starts, and 10 minutes later the list fails too",
        play=Play(
            sites=(SHORT, CALM),
            minutes=60,
            events=((10, behave("short", quits_before_start=1.0)), (20, answer(500, call="list")), (45, recover())),
        ),
        begins=10,
        page_by=15,
        ends=60,
        notified=("NothingStarts critical short",),
        muted=("StuckStarting warning short", "StoppedWithoutStarting warning short"),
    ),
    Incident(
        name="leases_lost_then_unlisted",
        title="All leases are lost, and 10 minutes later the list fails too",
        play=Play(
            sites=(LONG, CALM),
            minutes=80,
            events=((30, lose_all_leases("long")), (40, answer(500, call="list")), (65, recover())),
        ),
        begins=30,
        page_by=35,
        ends=80,
        notified=("HeartbeatsOverdue critical long",),
        muted=("HeartbeatsOverdue warning long",),
    ),
    Incident(
        name="killed_unlisted",
        title="The whole fleet is killed while the list fails",
        play=Play(sites=(SHORT, CALM), minutes=75, events=((5, answer(500, call="list")), (30, kill("short")))),
        # Without a list the workers may be busy: nobody is paged before an item has waited for half an hour.
        begins=30,
        page_by=65,
        ends=75,
        notified=(
            "ListingIncomplete warning calm",
            "ListingIncomplete warning short",
            "BacklogAgeing warning short",
            "NobodyPolling warning short",
            "BacklogAgeing critical short",
        ),
        muted=("WorkersSaturated warning short", "BacklogGrowing warning short"),
    ),
    Incident(
        name="absent_fleet",
        title="The workers of a fleet that should always be there leave while no work arrives",
        play=Play(sites=(Site(name="idle", arrival_s=1e6, workers=3), CALM), minutes=45, events=((10, kill("idle")),)),
        ends=45,
        notified=("FleetAbsent warning idle",),
    ),
    Incident(
        name="stuck_stopping",
        title="A worker vanishes when its item has been asked to stop",
        play=Play(sites=(LONG, CALM), minutes=60, events=((30, lose_worker_that_stops("long")),)),
        ends=60,
        notified=("StuckStopping warning long",),
    ),
    Incident(
        name="nameless_workers",
        title="The API does not say any more how many workers poll",
        play=Play(sites=(SHORT, CALM), minutes=45, events=((10, hide_workers("calm")),)),
        ends=45,
        notified=("WorkersUnknown info calm",),
    ),
    Incident(
        name="bad_configuration",
        title="The exporter is reloaded with a configuration that it cannot use",
        play=Play(sites=(SHORT, CALM), minutes=30, events=((10, reload_bad_configuration()),)),
        ends=30,
        notified=("ConfigReloadFailed warning",),
    ),
    Incident(
        name="half_500",
        title="Half of the calls are answered with 500",
        play=Play(sites=(SHORT, CALM), minutes=60, events=((10, answer(500, share=0.5)), (50, recover()))),
        ends=50,
        notified=("ApiErrors warning list", "ApiErrors warning stats"),
    ),
    Incident(
        name="nothing_configured",
        title="The API key is refused from the start, and no environment has a key of its own",
        play=Play(
            sites=(SHORT,),
            exporters=(Exporter(discovery=True, sites=()),),
            minutes=45,
            events=((0, answer(403, call="environments")),),
        ),
        ends=45,
        notified=("DiscoveryFailing warning auth", "NoEnvironments warning"),
    ),
    Incident(
        name="small_budget",
        title="The budget is a quarter of what the environments need",
        play=Play(sites=(SHORT, CALM, LONG), exporters=(Exporter(requests_per_minute=2),), minutes=60),
        ends=60,
        notified=("BudgetExhausted warning list", "BudgetExhausted warning stats"),
        muted=tuple(f"ListingIncomplete warning {name}" for name in ("short", "calm", "long")),
    ),
)
