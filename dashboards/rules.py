"""The alerts as data: when each fires, and what it says to the person it wakes.

Every text has the number, the reason where the API gave one, since when, and the next step. The recording rules are in
`recordings`, the numbers in `thresholds`, the addresses of links in `addresses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dashboards import recordings as r
from dashboards import thresholds as t
from dashboards.addresses import EXPORTER_URL, GRAFANA_URL, REPOSITORY_URL, RUNBOOK_URL
from dashboards.recordings import ON, RECORDINGS, SCRAPE_JOB, TARGETS, Recording
from exporter.metrics import catalogue as m

__all__ = ["ALERTS", "RECORDINGS", "REPOSITORY_URL"]

Severity = Literal["critical", "warning", "info", "none"]
Subject = Literal["environment", "exporter", "nothing"]

ALERT_PREFIX: Final = "ManagedAgents"
# The `for` of an alert whose expression looks back far enough.
AT_ONCE: Final = "0s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule. `name` lacks the shared first word; `hold` is the rule's `for`; two severities may share a name.

    `items`: the state of the items it speaks of; empty where they are not listed one by one.
    """

    name: str
    severity: Severity
    hold: str
    expr: str
    summary: str
    description: str
    next_step: str
    subject: Subject = "environment"
    items: str = ""

    @property
    def full_name(self) -> str:
        return ALERT_PREFIX + self.name

    @property
    def runbook_url(self) -> str:
        return RUNBOOK_URL.format(alert=self.full_name)

    @property
    def dashboard_url(self) -> str:
        path = {
            "environment": "/d/managed-agents-environment?var-environment_name={{ $labels.environment_name | urlquery }}",
            "exporter": "/d/managed-agents-exporter?var-job={{ $labels.job | urlquery }}",
            "nothing": "/d/managed-agents-overview",
        }[self.subject]
        return GRAFANA_URL + path

    @property
    def items_url(self) -> str:
        """Return where the exporter shows these items, empty where it does not."""
        if not self.items:
            return ""
        return f"{EXPORTER_URL}/items?target={{{{ $labels.environment_id | urlquery }}}}&state={self.items}"

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.description, self._since, f"Next: {self.next_step}") if part)

    @property
    def _since(self) -> str:
        if self.subject == "nothing":
            return ""
        identity = f'alertname="{self.full_name}",severity="{self.severity}"'
        selector = f"time() - ALERTS_FOR_STATE{{{identity},job=%q,environment_id=%q}}"
        return _queried(selector, "Since {{ . | first | value | humanizeDuration }}.", otherwise="")


def _queried(selector: str, text: str, *, otherwise: str = "unknown") -> str:
    """Make template text from a query about the alert's own environment or job."""
    arguments = "$labels.job $labels.environment_id" if selector.count("%q") > 1 else "$labels.job"
    alternative = f"{{{{ else }}}}{otherwise}" if otherwise else ""
    return f"{{{{ with printf `{selector}` {arguments} | query }}}}{text}{alternative}{{{{ end }}}}"


def _other(recording: Recording, show: str, *, matcher: str = "") -> str:
    """Make template text that shows another number of the alert's environment, or `unknown`."""
    selector = f"{recording.record}{{job=%q,environment_id=%q{matcher}}}"
    return _queried(selector, f"{{{{ . | first | {show} }}}}")


def _reason(source: str) -> str:
    return _other(r.FAILURE, 'label "reason"', matcher=f',source="{source}"')


def above(recording: Recording, name: str, *, matchers: str = "", comparison: str = ">") -> str:
    """Compare with a number of `thresholds`, with that of the environment where `BY_ENVIRONMENT` has one."""
    own = {environment: numbers[name] for environment, numbers in t.BY_ENVIRONMENT.items() if name in numbers}
    usual = [*([matchers] if matchers else []), *([f'environment_name!~"{"|".join(own)}"'] if own else [])]
    terms = [f"{_selector(recording, usual)} {comparison} {getattr(t, name)}"]
    for environment, number in own.items():
        matched = [*([matchers] if matchers else []), f'environment_name="{environment}"']
        terms.append(f"{_selector(recording, matched)} {comparison} {number}")
    return "\nor ".join(terms)


def _selector(recording: Recording, matchers: list[str]) -> str:
    return f"{recording.record}{{{','.join(matchers)}}}" if matchers else recording.record


def _aged(limit: str, memory: str, floor: str) -> str:
    """Compare the oldest item's age with a limit; once above, remember it while work waits without a break and above the floor."""
    lately = f"max_over_time({r.OLDEST_AGE.record}[{memory}])"
    still = f"min_over_time({r.DEPTH.record}[{t.WAIT_MEMORY}])"
    return f"{_AGE} > {limit}\nor (\n  {_AGE} > {floor}\n  and {lately} > {limit}\n  and {still} > 0\n)"


_AGE = f"last_over_time({r.OLDEST_AGE.record}[{t.BLIND_MEMORY}])"
_WARNING_AGE, _CRITICAL_AGE = (
    f"({objectives} * {r.OBJECTIVE.record} or 0 * {_AGE} + {seconds})"
    for objectives, seconds in (
        (t.WAIT_WARNING_OBJECTIVES, t.WAIT_WARNING_S),
        (t.WAIT_CRITICAL_OBJECTIVES, t.WAIT_CRITICAL_S),
    )
)
COUNT: Final = 'value | printf "%.0f"'
_NAME = "{{ $labels.environment_name }}"
_VALUE = '{{ $value | printf "%.0f" }}'
_DURATION = "{{ $value | humanizeDuration }}"
_PERCENT = "{{ $value | humanizePercentage }}"
_OLDEST = _other(r.OLDEST_AGE, "value | humanizeDuration")
_DEPTH = _other(r.DEPTH, COUNT)
_POLLING = _other(r.WORKERS, COUNT)
_BUSY = _other(r.BUSY, COUNT)
_WORKER_MODE = _other(r.INFO, 'label "worker_mode"')
_OBJECTIVE = _other(r.OBJECTIVE, "value | humanizeDuration")
_SHORT = _queried(
    f"{r.SHORT_BY.record}{{job=%q,environment_id=%q}}",
    f" Short by {{{{ . | first | {COUNT} }}}} worker(s).",
    otherwise="",
)
_NEEDED = _other(r.NEEDED, 'value | printf "%.1f"')


def _fires(name: str, severity: Severity) -> str:
    return f'ALERTS{{alertname="{ALERT_PREFIX}{name}",alertstate="firing",severity="{severity}"}}'


def _last(recording: Recording, *matchers: str) -> str:
    return f"last_over_time({_selector(recording, list(matchers))}[{t.UNLISTED_MEMORY}])"


def _goes_on(name: str, severity: Severity, *still: str) -> str:
    """Keep an alert that rests on the list firing while the list is not current: nothing says then that the trouble is over.

    `still`: the number that it speaks of, which ends it by its age, and whatever the statistics say of it.
    """
    held = "\n  and ".join((*still, f"{ON} {_fires(name, severity)}", f"{ON} {r.READABLE.record}"))
    return f"or (\n  {held}\n  unless {ON} (\n    {r.LIST_SETTLED}\n  )\n)"


NOBODY: Final = (
    f"{r.DEPTH.record} > 0\nand {r.WORKERS.record} == 0\n"
    f'and {ON} {r.DATA_AGE.record}{{source="stats"}} <= {t.CURRENT_S}'
)
# Nobody is busy by a list that is current, or there is no list to ask.
NOBODY_IS_BUSY: Final = f"(\n  {r.BUSY.record} == 0\n  or {r.READABLE.record} == 1 unless {r.LISTED.record}\n)"
# A webhook starts machines, and these need minutes.
_STILL_WAKING = f'(\n  {r.OLDEST_AGE.record} <= {_WARNING_AGE}\n  and {ON} {r.INFO.record}{{worker_mode="webhook"}}\n)'
_LEFT = f"max_over_time({r.LEFT.record}[{t.LEAVING_MEMORY}])"
_STILL_NO_WORKER = f"{r.increase(m.WORK_ACKNOWLEDGED, t.LEAVING_SILENCE)} == 0"

QUEUE_ALERTS: Final = (
    Alert(
        name="NobodyPolling",
        items="queued",
        severity="critical",
        hold=t.NOBODY_POLLING_FOR,
        # Nobody has asked for work since the list was current: who was not busy then is not busy now.
        expr=f"{NOBODY}\nand {NOBODY_IS_BUSY}\nunless {ON} {_STILL_WAKING}\n{_goes_on('NobodyPolling', 'critical', f'{r.DEPTH.record} > 0', f'{r.WORKERS.record} == 0')}",
        summary="Work is waiting and no worker is there.",
        description=f"{_VALUE} item(s) wait in {_NAME}, the oldest for {_OLDEST}, no worker has polled for {t.LOOKBACK}, and none "
        f"is known to be busy. Nothing of this will start until a worker polls. Worker mode: {_WORKER_MODE}.",
        next_step="look at the worker processes and their last log lines; start them.",
    ),
    Alert(
        name="NobodyPolling",
        items="queued",
        severity="warning",
        hold=t.NOBODY_POLLING_UNKNOWN_FOR,
        expr=f"{NOBODY}\nunless {r.BUSY.record}",
        summary="Work is waiting and no worker asks for it; whether any is busy is unknown.",
        description=f"{_VALUE} item(s) wait in {_NAME}, the oldest for {_OLDEST}, and no worker has polled for {t.LOOKBACK}. The "
        f"list is not current ({_reason('list')}), so the workers may be busy or gone. Worker mode: {_WORKER_MODE}.",
        next_step="look at the worker processes: are they running?",
    ),
    Alert(
        name="WorkersLeaving",
        items="active",
        severity="critical",
        hold=t.LEAVING_FOR,
        expr=f"{_LEFT} >= {t.LEAVING_ITEMS}\nand {_LEFT} >= {t.LEAVING_SHARE} * ({r.BUSY.record} + {_LEFT})\n"
        f"and min_over_time({r.DEPTH.record}[{t.LEAVING_SILENCE}]) > 0\nand {r.WORKERS.record} == 0\n"
        f"and {_STILL_NO_WORKER}\n"
        + _goes_on(
            "WorkersLeaving",
            "critical",
            f"max_over_time({r.LEFT.record}[{t.UNLISTED_MEMORY}])",
            f"{r.DEPTH.record} > 0",
            f"{r.WORKERS.record} == 0",
        ),
        summary="Workers end their sessions and take no new ones, while work waits.",
        description=f"{_VALUE} worker(s) of {_NAME} have ended a session within {t.LEAVING_WINDOWS[-1]} and taken no other; {_BUSY} are "
        f"still busy, none polls, {_DEPTH} item(s) wait, the oldest for {_OLDEST}. When the running sessions end, nobody is left.",
        next_step="find out what drains or scales down the workers; stop that, or start other workers.",
    ),
    Alert(
        name="WorkersSaturated",
        items="queued",
        severity="warning",
        hold=t.SATURATED_FOR,
        # Acknowledgements are counted from the list. While it is not current, those of hours ago tell that there is a fleet.
        expr=f"{r.DEPTH_LOW.record} > 0\nand (\n  {r.increase(m.WORK_ACKNOWLEDGED, '1h')} > 0\n"
        f"  or {r.increase(m.WORK_ACKNOWLEDGED, '6h')} > 0 unless {r.BUSY.record}\n)\n"
        f"unless {r.BUSY.record} == 0\nunless {_LEFT} >= {t.LEAVING_SHARE} * ({r.BUSY.record} + {_LEFT}) > 0",
        summary="Work is waiting because there are too few workers.",
        description=f"At least {_VALUE} item(s) have waited in {_NAME} at every moment of the last {t.SATURATED_WINDOW}, the oldest "
        f"for {_OLDEST}. {_BUSY} item(s) are being worked on. Workers that this traffic needs: {_NEEDED}.{_SHORT}",
        next_step="add workers: as many as are missing, and some more for the backlog.",
    ),
    Alert(
        name="FleetAbsent",
        severity="warning",
        hold=t.FLEET_ABSENT_FOR,
        expr=f"{r.WORKERS.record} == 0\n"
        f'and {ON} {r.INFO.record}{{worker_mode="always_on"}}\n'
        f"and {r.DEPTH.record} == 0\nand {r.BUSY.record} == 0",
        summary="No worker of an always-on fleet is there.",
        description=f"The workers of {_NAME} are declared always_on, but none has polled for {t.LOOKBACK} and no active item has "
        "a fresh heartbeat. Nothing waits yet; the next item will.",
        next_step="look at the worker processes; start them.",
    ),
    Alert(
        name="WorkersUnknown",
        severity="info",
        hold=t.WORKERS_UNKNOWN_FOR,
        expr=f"{r.READABLE.record} == 1\nunless {r.WORKERS.record}",
        summary="The API does not say how many workers poll.",
        description=f"{_NAME} is readable, but the number of polling workers is unknown. ManagedAgentsNobodyPolling cannot fire "
        f"for it; the age of waiting work still can. Waiting now: {_DEPTH}.",
        next_step="let the workers name themselves: they send a worker id with each poll.",
    ),
    Alert(
        name="BacklogAgeing",
        items="queued",
        severity="warning",
        hold=t.WAIT_FOR,
        expr=_aged(_WARNING_AGE, t.WAIT_MEMORY, "0"),
        summary="Work has been waiting for too long.",
        description=f"The oldest item in {_NAME} has waited for {_DURATION}; the objective is {_OBJECTIVE}. Waiting: {_DEPTH}. "
        f"Workers polling: {_POLLING}. Active with a fresh heartbeat: {_BUSY}.",
        next_step="find out why it waits: no worker polls, all are busy, or one item is stuck.",
    ),
    Alert(
        name="BacklogAgeing",
        items="queued",
        severity="critical",
        hold=t.WAIT_FOR,
        expr=_aged(_CRITICAL_AGE, t.WAIT_CRITICAL_MEMORY, _WARNING_AGE),
        summary="Work has been waiting for far too long.",
        description=f"The oldest item in {_NAME} has waited for {_DURATION}; the objective is {_OBJECTIVE}. Waiting: {_DEPTH}. "
        f"Workers polling: {_POLLING}. Active with a fresh heartbeat: {_BUSY}.{_SHORT}",
        next_step="add workers, or find out why those that poll do not take it.",
    ),
    Alert(
        name="BacklogGrowing",
        items="queued",
        severity="warning",
        hold=t.BACKLOG_GROWTH_FOR,
        expr=f"{r.DEPTH_SLOPE.record} * {t.BACKLOG_GROWTH_WINDOW_S} > {t.BACKLOG_GROWTH_ITEMS}\n"
        f"and {r.DEPTH.record} >= {t.BACKLOG_GROWTH_ITEMS}",
        summary="Work arrives faster than it is taken.",
        description=f"The backlog of {_NAME} grows by {_VALUE} item(s) per {t.BACKLOG_GROWTH_WINDOW} and "
        f"is now {_DEPTH}. Workers polling: {_POLLING}. Active with a fresh heartbeat: {_BUSY}.{_SHORT}",
        next_step="find out whether more work arrives than usual, or fewer workers take it.",
    ),
    Alert(
        name="ClaimedNotAcknowledged",
        items="queued",
        severity="warning",
        hold=t.PENDING_FOR,
        expr=f"{r.PENDING.record} > 0\nand {r.OLDEST_AGE.record} > {t.PENDING_AGE_S}\nand {r.WORKERS.record} > 0\n"
        # Behind a backlog the oldest item is one that waits, and some item is always on its way.
        f"and (\n  {r.DEPTH.record} == 0\n  or {r.increase(m.WORK_ACKNOWLEDGED, t.PENDING_FOR)} == 0\n)",
        summary="Workers claim work and do not acknowledge it.",
        description=f"{_VALUE} item(s) in {_NAME} are claimed and not acknowledged; the oldest was queued {_OLDEST} ago. A worker "
        f"acknowledges within seconds. Workers polling: {_POLLING}.",
        next_step="read the log of a worker that claims: how does the API answer its acknowledgement?",
    ),
    Alert(
        name="ClaimedNotAcknowledged",
        items="queued",
        severity="critical",
        hold=t.PENDING_TOTAL_FOR,
        expr=f"min_over_time({r.PENDING.record}[{t.PENDING_TOTAL_WINDOW}]) > 0\nand {r.OLDEST_AGE.record} > {t.PENDING_AGE_S}\n"
        f"and {r.WORKERS.record} > 0\nand {r.increase(m.WORK_ACKNOWLEDGED, t.PENDING_TOTAL_WINDOW)} == 0\n"
        f"and {ON} {r.LIST_CURRENT}\n"
        + _goes_on(
            "ClaimedNotAcknowledged",
            "critical",
            f"{r.PENDING.record} > 0",
            f"{r.OLDEST_AGE.record} > {t.PENDING_AGE_S}",
        ),
        summary="Workers claim work, and none of it is acknowledged.",
        description=f"At least {_VALUE} item(s) in {_NAME} are claimed, and nothing at all has been acknowledged for "
        f"{t.PENDING_TOTAL_WINDOW}; the oldest was queued {_OLDEST} ago. Workers polling: {_POLLING}. No session starts.",
        next_step="undo the last change of the workers; read the log of one that claims.",
    ),
)

WORK_ALERTS: Final = (
    Alert(
        name="NothingStarts",
        items="starting",
        severity="critical",
        hold=t.NOTHING_STARTS_FOR,
        expr=f"{r.NOTHING_STARTED.record} > 0\nand {ON} {r.LIST_CURRENT}\n"
        + _goes_on("NothingStarts", "critical", f"{_last(r.NOTHING_STARTED)} > 0"),
        summary="Workers acknowledge work, and none of it starts.",
        description=f"{_VALUE} item(s) of {_NAME} were acknowledged minutes ago, and not one has sent its first heartbeat since. "
        "Every session fails or hangs. Items starting: " + _other(r.ITEMS, COUNT, matcher=',state="starting"') + ".",
        next_step="undo the last deployment of the workers.",
    ),
    Alert(
        name="RunsEndAtOnce",
        severity="critical",
        hold=t.RUNS_END_FOR,
        expr=f"{r.ENDED_AT_ONCE.record} > 0\n" + _goes_on("RunsEndAtOnce", "critical", f"{_last(r.ENDED_AT_ONCE)} > 0"),
        summary="Nearly every session ends as soon as it has started.",
        description=f"{_VALUE} session(s) of {_NAME}, nearly all that ended lately, ended within {t.RUNS_END_S} s of their first "
        f"heartbeat: they did no work. Items that ran in the last {t.NEVER_STARTED_WINDOW}: "
        + _other(r.FINISHED, COUNT, matcher=',outcome="ran"')
        + ".",
        next_step="undo the last deployment of the workers; read the log of a session that ended.",
    ),
    Alert(
        name="StuckStarting",
        items="starting",
        severity="warning",
        hold=t.STARTING_FOR,
        expr=above(r.STATE_AGE, "STARTING_S", matchers='state="starting"')
        + "\n"
        + _goes_on("StuckStarting", "warning", _last(r.STATE_AGE, 'state="starting"')),
        summary="Acknowledged work does not start.",
        description=f"An item in {_NAME} was acknowledged {_DURATION} ago and has not sent its first heartbeat. Items starting: "
        + _other(r.ITEMS, COUNT, matcher=',state="starting"')
        + ".",
        next_step="find the item and the worker that acknowledged it; stop the item.",
    ),
    Alert(
        name="StuckStopping",
        items="stopping",
        severity="warning",
        hold=t.STOPPING_FOR,
        expr=above(r.STATE_AGE, "STOPPING_S", matchers='state="stopping"')
        + "\n"
        + _goes_on("StuckStopping", "warning", _last(r.STATE_AGE, 'state="stopping"')),
        summary="Work that was asked to stop does not stop.",
        description=f"An item in {_NAME} was asked to stop {_DURATION} ago and its worker has not confirmed. Items stopping: "
        + _other(r.ITEMS, COUNT, matcher=',state="stopping"')
        + ".",
        next_step="find the item; stop it with force if its worker is gone.",
    ),
    Alert(
        name="HeartbeatsOverdue",
        items="active",
        severity="warning",
        hold=t.HEARTBEATS_FOR,
        expr=f"{r.OVERDUE.record} > 0\n" + _goes_on("HeartbeatsOverdue", "warning", f"{_last(r.OVERDUE)} > 0"),
        summary="Active work sends no heartbeats.",
        description=f"{_VALUE} active item(s) in {_NAME} have an overdue heartbeat, the oldest "
        f"{_other(r.HEARTBEAT_AGE, 'value | humanizeDuration')} ago. Their leases will lapse. Active with a fresh heartbeat: {_BUSY}.",
        next_step="find the item and its worker; a worker that died leaves its item behind.",
    ),
    Alert(
        name="HeartbeatsOverdue",
        items="active",
        severity="critical",
        hold=t.HEARTBEATS_FOR,
        expr=f"{r.OVERDUE.record} >= {t.HEARTBEATS_CRITICAL_ITEMS}\n"
        f"and {r.OVERDUE.record} >= {t.HEARTBEATS_CRITICAL_SHARE} * ({r.BUSY.record} + {r.OVERDUE.record})\n"
        + _goes_on("HeartbeatsOverdue", "critical", f"{_last(r.OVERDUE)} > 0"),
        summary="Most active work sends no heartbeats.",
        description=f"{_VALUE} active item(s) in {_NAME} have an overdue heartbeat, {_BUSY} a fresh one. Not one worker but most of "
        "them are gone, or their heartbeats do not arrive.",
        next_step="look at the workers, their network and their environment key.",
    ),
    Alert(
        name="StoppedWithoutStarting",
        severity="warning",
        hold=t.NEVER_STARTED_FOR,
        expr=f'{r.FINISHED.record}{{outcome="never_started"}} >= {t.NEVER_STARTED_ITEMS}',
        summary="Work stops without ever having started.",
        description=f"{_VALUE} item(s) in {_NAME} were acknowledged and stopped without a single heartbeat in the last "
        f"{t.NEVER_STARTED_WINDOW}. Their sessions hang silently. Items that ran in that time: "
        + _other(r.FINISHED, COUNT, matcher=',outcome="ran"')
        + ".",
        next_step="read the log of the worker that acknowledged them.",
    ),
)

_GONE = f'{r.FAILURE.record}{{source="stats",reason="not_found"}}'
UNREADABLE: Final = f"{r.READABLE.record} == 0\nunless {ON} {_GONE}"
# For minutes a 429 is a matter of the whole exporter, of which RateLimited speaks; for half an hour it is this environment's.
_LIMITED = f'{r.FAILURE.record}{{source="stats",reason="rate_limited"}}'
_SHARE = f"> {t.FLEET_UNREADABLE_SHARE}"
_MAIN_REASON = _queried(
    f'topk(1, count by (reason) ({r.FAILURE.record}{{job=%q,source="stats"}}))',
    '{{ . | first | label "reason" }} ({{ . | first | value | printf "%.0f" }})',
)
_BLIND = "Its queue alerts cannot fire meanwhile, and those that fired have resolved without anything being well."

READING_ALERTS: Final = (
    Alert(
        name="ApiUnavailable",
        subject="exporter",
        severity="critical",
        hold=t.FLEET_UNREADABLE_FOR,
        expr=f"{r.UNREADABLE_COUNT.record} > 0\nand max_over_time({r.UNREADABLE_SHARE.record}[{t.FLEET_UNREADABLE_MEMORY}]) {_SHARE}",
        summary="Most environments cannot be read.",
        description=f"{_VALUE} environment(s) of the job {{{{ $labels.job }}}} cannot be read. Most frequent reason: "
        f"{_MAIN_REASON}. Their queue alerts cannot fire meanwhile, and those that fired have resolved without anything being well.",
        next_step="server: the vendor's status page; auth: the API key; connect, tls, timeout: the network in between.",
    ),
    Alert(
        name="EnvironmentUnreadable",
        severity="warning",
        hold=t.UNREADABLE_FOR,
        expr=f"{UNREADABLE}\nunless {ON} {_LIMITED}",
        summary="An environment's queue cannot be read.",
        description=f"The statistics of {_NAME} have not been readable for {t.UNREADABLE_FOR}. Reason: {_reason('stats')}. {_BLIND}",
        next_step="follow the reason in the runbook.",
    ),
    Alert(
        name="EnvironmentUnreadable",
        severity="critical",
        hold=t.UNREADABLE_CRITICAL_FOR,
        expr=UNREADABLE,
        summary="An environment's queue has been unreadable for long.",
        description=f"The statistics of {_NAME} have not been readable for {t.UNREADABLE_CRITICAL_FOR}. Reason: {_reason('stats')}. "
        + _BLIND,
        next_step="follow the reason in the runbook.",
    ),
    Alert(
        name="EnvironmentNotFound",
        severity="warning",
        hold=t.UNREADABLE_FOR,
        expr=f"{r.READABLE.record} == 0\nand {ON} {_GONE}",
        summary="An environment is not there any more.",
        description=f"The API answers 404 for {_NAME}: it was deleted, belongs to another workspace, or is not self-hosted.",
        next_step="take it out of the exporter's configuration, or correct its id or workspace_id.",
    ),
    Alert(
        name="CredentialsRejected",
        severity="warning",
        hold=t.AUTH_FOR,
        expr=f'{r.FAILURE.record}{{reason="auth"}} > 0',
        summary="The API rejects every credential for an environment.",
        description=f"The API answers 401 or 403 when the {{{{ $labels.source }}}} of {_NAME} is read, with every credential that "
        "the exporter has for it. This does not heal by itself.",
        next_step="put a valid key into the file that the configuration names; no restart is needed.",
    ),
    Alert(
        name="NumbersOld",
        severity="warning",
        hold=t.DATA_AGE_FOR,
        expr=f'quantile_over_time(0.5, {r.DATA_AGE.record}{{source="stats"}}[{t.DATA_AGE_WINDOW}]) > {t.DATA_AGE_S}\n'
        f"and {ON} {r.READABLE.record} == 1",
        summary="The numbers shown are old.",
        description=f"In half of the last {t.DATA_AGE_WINDOW} the statistics shown for {_NAME} were older than {_DURATION}. Nothing "
        "is concluded from them; when they are older than scrape.max_age, the exporter shows none.",
        next_step="look for 429 in managed_agents_exporter_api_requests_total: the organisation's limit. Without it, the exporter's own "
        "budget is too small.",
    ),
    Alert(
        name="ListingIncomplete",
        severity="warning",
        hold=t.LISTING_FOR,
        expr=f"{r.LISTED.record} == 0\nand {r.READABLE.record} == 1",
        summary="The list of work items has been incomplete for long.",
        description=f"The listing of {_NAME} has not been complete for {t.LISTING_FOR}. Reason: {_reason('list')}. No counts by "
        "state, no ages, no heartbeats; ManagedAgentsNobodyPolling cannot tell busy workers from absent ones.",
        next_step="auth: give the environment a key of its own; none: the budget is too small for its history.",
    ),
)

_LIMITED_OR_DOWN = (
    f'sum by (job) (increase({m.API_ERRORS.name}{{reason=~"rate_limited|server"}}[{t.ERROR_WINDOW}])) > 0'
)
_SHOWN = (
    f"max by (job, instance, environment_id) (max_over_time({m.ENVIRONMENT_INFO.name}"
    f'{{job="{SCRAPE_JOB}"}}[{t.UNWATCHED_WINDOW}]))'
)
_EXPORTER = "The exporter of the job {{ $labels.job }}"
_EXPORTER_DOWN = f"max by (job) ({r.ANSWERED.record}) < {t.EXPORTER_DOWN_SHARE}"

EXPORTER_ALERTS: Final = (
    Alert(
        name="ExporterDown",
        subject="exporter",
        severity="critical",
        hold=t.EXPORTER_DOWN_FOR,
        expr=_EXPORTER_DOWN,
        summary="No exporter can be scraped, or hardly ever.",
        description=f"{_PERCENT} of the scrapes of the job {{{{ $labels.job }}}} were answered in the last {t.EXPORTER_DOWN_WINDOW}. Every queue alert is blind, and those that fired have "
        "resolved without anything being well.",
        next_step="look at the process and its last log line.",
    ),
    Alert(
        name="EnvironmentsUnwatched",
        subject="exporter",
        severity="critical",
        hold=t.UNWATCHED_FOR,
        expr=f"count by (job) (\n  group by (job, environment_id) (\n    {_SHOWN}\n    unless on (job, instance) {TARGETS} == 1\n  )\n"
        f"  unless on (job, environment_id) {r.INFO.record}\n) > 0",
        summary="Environments have lost their exporter.",
        description=f"{_VALUE} environment(s) that an exporter of the job {{{{ $labels.job }}}} showed within the last "
        f"{t.UNWATCHED_WINDOW} are not shown any more, and that exporter cannot be scraped. No alert about their queues can fire.",
        next_step="start that exporter again: up == 0 names it. If there is no such target, put it back into the scrape configuration.",
    ),
    Alert(
        name="ReplicaDown",
        subject="exporter",
        severity="warning",
        hold=t.REPLICA_DOWN_FOR,
        expr=f"max by (job, instance) (max_over_time({TARGETS}[{t.LOOKBACK}])) == 0\nunless on (job) {_EXPORTER_DOWN}",
        summary="One exporter of several cannot be scraped.",
        description=f"{{{{ $labels.instance }}}} has answered no scrape for {t.LOOKBACK}. Another exporter of the job "
        "{{ $labels.job }} is there.",
        next_step="look at that process and its last log line.",
    ),
    Alert(
        name="ExporterRestarting",
        subject="exporter",
        severity="warning",
        hold=AT_ONCE,
        expr=f"{r.STARTS.record} >= {t.RESTARTS}",
        summary="The exporter starts again and again.",
        description=f"{{{{ $labels.instance }}}} has started {_VALUE} times in {t.RESTART_WINDOW}. Its counters begin at 0 each time, "
        "and what happens while it is away is not counted.",
        next_step="find out why it ended: out of memory, a failing probe, or its last log line.",
    ),
    Alert(
        name="NoEnvironments",
        subject="exporter",
        severity="warning",
        hold=t.NO_ENVIRONMENTS_FOR,
        expr=f"max by (job) ({r.ANSWERED.record}) >= {t.EXPORTER_DOWN_SHARE}\nunless on () {r.ENVIRONMENTS.record}",
        summary="The exporter watches no environment.",
        description=f"{_EXPORTER} answers but exports no environment: discovery has not succeeded "
        "yet, or nothing is configured. No queue alert can fire.",
        next_step="run it with --config.check=online.",
    ),
    Alert(
        name="DiscoveryFailing",
        subject="exporter",
        severity="warning",
        hold=t.DISCOVERY_FOR,
        expr=f"{r.DISCOVERY_ERRORS.record} >= {t.DISCOVERY_ERRORS}\n"
        f"and {r.exporter_increase(m.DISCOVERY_ERRORS, t.DISCOVERY_RECENT, 'workspace_id', 'reason')} > 0",
        summary="A workspace's environments cannot be listed.",
        description="Discovery{{ with $labels.workspace_id }} in {{ . }}{{ end }} has failed "
        f"{_VALUE} times in {t.DISCOVERY_WINDOW}, because of {{{{ $labels.reason }}}}. "
        "Environments known so far are read as before; new ones are not noticed.",
        next_step="auth: the API key was revoked, or may not act on this workspace.",
    ),
    Alert(
        name="ApiErrors",
        subject="exporter",
        severity="warning",
        hold=t.ERROR_FOR,
        expr=f"{r.ERROR_RATIO.record} > {t.ERROR_RATIO}\nand {r.ERROR_COUNT.record} >= {t.ERROR_COUNT}\n"
        f"unless on (job) max_over_time({r.NAMED_FAILURES.record}[{t.ERROR_WINDOW}]) > 0",
        summary="Many reads of the API fail.",
        description=f"{_PERCENT} of the calls to {{{{ $labels.source }}}} ended in a failed read in the last {t.ERROR_WINDOW}, in no "
        "environment all the time. Queue alerts tolerate one missed read, not many in a row.",
        next_step="look at managed_agents_exporter_api_errors_total by reason.",
    ),
    Alert(
        name="RateLimited",
        subject="exporter",
        severity="warning",
        hold=t.RATE_LIMITED_FOR,
        expr=f"{r.RATE_LIMITED.record} > 0",
        summary="The API answers 429 again and again.",
        description=f"{_VALUE} read(s) were answered with 429 in the last {t.RATE_LIMITED_WINDOW}. The limit is the organisation's: "
        "workers and sessions meet it too. The exporter waits as long as it is told; numbers grow old.",
        next_step="find out who uses up the organisation's limit; lower api.requests_per_minute if it is the exporter.",
    ),
    Alert(
        name="BudgetExhausted",
        subject="exporter",
        severity="warning",
        hold=t.THROTTLED_FOR,
        expr=f"{r.THROTTLED.record} > 0\nunless on (job) {_LIMITED_OR_DOWN}",
        summary="The exporter has been short of API calls for long.",
        description=f"{_VALUE} call(s) for {{{{ $labels.source }}}} were not made in the last {t.THROTTLED_WINDOW}, because "
        "the exporter's own budget is too small; the API has refused none. Numbers grow old, those of the list first.",
        next_step="raise api.requests_per_minute, or scrape less often; --config.check prints what is needed.",
    ),
    Alert(
        name="ClockOffset",
        subject="exporter",
        severity="warning",
        hold=t.CLOCK_OFFSET_FOR,
        expr=f"max_over_time({r.CLOCK_OFFSET.record}[{t.CLOCK_OFFSET_WINDOW}]) > {t.CLOCK_OFFSET_S}",
        summary="The exporter's clock is wrong.",
        description="The clocks of an exporter of the job {{ $labels.job }} and of the API have differed by up to "
        f"{_DURATION}. Ages are those of the API's "
        "clock and stay right; data_timestamp and the times on the status page are not.",
        next_step="look at time synchronisation on the exporter's machine.",
    ),
    Alert(
        name="ConfigReloadFailed",
        subject="exporter",
        severity="warning",
        hold=t.RELOAD_FOR,
        expr=f"{r.RELOADED.record} == 0",
        summary="The exporter refused its new configuration.",
        description="An exporter of the job {{ $labels.job }} could not load its configuration and runs with the one before. "
        "It would not start again with the new one.",
        next_step="run it with --config.check, which prints every problem.",
    ),
    Alert(
        name="SchemaDrift",
        subject="exporter",
        severity="info",
        hold=t.DRIFT_FOR,
        expr=f"{r.DRIFT.record} > 0",
        summary="The API answers with values this version does not know.",
        description=f"{_VALUE} value(s) of the field {{{{ $labels.field }}}} were not understood in the last "
        f"{t.DRIFT_WINDOW}. Numbers that rest on them are incomplete.",
        next_step="look for a newer version of the exporter.",
    ),
    Alert(
        name="Watchdog",
        subject="nothing",
        severity="none",
        hold=AT_ONCE,
        expr="vector(1)",
        summary="Alerts arrive.",
        description="This alert always fires. When it stops arriving, the way of the alerts is broken: Prometheus, Alertmanager, or "
        "the network between them.",
        next_step="nothing while it arrives.",
    ),
)


@dataclass(frozen=True, slots=True)
class _Window:
    """The share that was missed over a long and a short window, and how much was acknowledged in the long one."""

    missed: Recording
    missed_lately: Recording
    acknowledged: Recording


_FAST, _SLOW = (
    _Window(r.MISSED_1H, r.MISSED_5M, r.ACKNOWLEDGED_1H),
    _Window(r.MISSED_6H, r.MISSED_30M, r.ACKNOWLEDGED_6H),
)


def _burns(severity: Severity, window: _Window, factor: float, least: int) -> str:
    budget = factor * (1 - t.OBJECTIVE_SHARE)
    waits = f"last_over_time({r.DEPTH.record}[{t.BLIND_MEMORY}]) > 0"
    return (
        f"(\n  {window.missed.record} > {budget:.10g}\n  and {window.acknowledged.record} >= {least}\n  unless {window.missed_lately.record} <= {budget:.10g}\n"
        f"  and ({r.ACKNOWLEDGED_5M.record} > 0 or {waits})\n)\n"
        + _goes_on("WaitObjectiveMissed", severity, _last(window.missed), waits)
    )


def _burning(window: str, acknowledged: Recording) -> str:
    return (
        f"{_PERCENT} of {_other(acknowledged, COUNT)} item(s) of {_NAME} in the last {window} were acknowledged later than the "
        f"objective of {_OBJECTIVE}; {1 - t.OBJECTIVE_SHARE:.0%} may be. Waiting now: {_DEPTH}, the oldest for {_OLDEST}.{_SHORT}"
    )


OBJECTIVE_ALERTS: Final = (
    Alert(
        name="WaitObjectiveMissed",
        items="queued",
        severity="critical",
        hold=t.BURN_FOR,
        expr=_burns("critical", _FAST, t.FAST_BURN, t.FAST_BURN_ITEMS),
        summary="Most work waits longer than the objective allows.",
        description=_burning("hour", r.ACKNOWLEDGED_1H),
        next_step="add workers, or find out what keeps those that are there.",
    ),
    Alert(
        name="WaitObjectiveMissed",
        items="queued",
        severity="warning",
        hold=t.BURN_FOR,
        expr=_burns("warning", _SLOW, t.SLOW_BURN, t.SLOW_BURN_ITEMS),
        summary="Too much work waits longer than the objective allows.",
        description=_burning("6 hours", r.ACKNOWLEDGED_6H),
        next_step="find out at which times of day it happens; plan more workers for those.",
    ),
)

ABSENT_ALERTS: Final = (
    Alert(
        name="ExporterMissing",
        subject="exporter",
        severity="critical",
        hold=AT_ONCE,
        expr=f"absent_over_time({TARGETS}[{t.MISSING_WINDOW}])",
        summary="No exporter is scraped at all.",
        description=f"This Prometheus has had no target of the job {{{{ $labels.job }}}} for {t.MISSING_WINDOW}: it has vanished from "
        "the scrape configuration or from service discovery. Every queue alert is blind.",
        next_step="look at Status → Targets of this Prometheus.",
    ),
)

ALERT_GROUPS: Final = {
    "managed-agents-queue": QUEUE_ALERTS,
    "managed-agents-work": WORK_ALERTS,
    "managed-agents-reading": READING_ALERTS,
    "managed-agents-exporter": EXPORTER_ALERTS,
}
OBJECTIVE_ALERT_GROUPS: Final = {"managed-agents-objectives": OBJECTIVE_ALERTS}
ABSENT_ALERT_GROUPS: Final = {"managed-agents-absent": ABSENT_ALERTS}
ALERTS: Final = tuple(
    alert for group in (ALERT_GROUPS | OBJECTIVE_ALERT_GROUPS | ABSENT_ALERT_GROUPS).values() for alert in group
)
