"""Every number that decides when an alert fires or a panel changes colour. The one place to change them.

After a change run `python -m dashboards.generate` and have Prometheus reload its rules: rules, dashboards and the table in
docs/alerts.md follow. Durations are written the way Prometheus writes them; a name that ends in `_S` is a number of seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Environments for which another number holds, by name: {"batch": {"STARTING_S": 900}}. Only the numbers that an alert compares
# with `above` may stand here; a test says which. How long work may wait is not among them: it follows each environment's
# own wait_objective in the exporter's configuration.
BY_ENVIRONMENT: Mapping[str, Mapping[str, float]] = {}

# A read or scrape that fails makes series absent for a moment, and an expression that is absent once restarts `for`. So the
# rules look back this far for the latest value. At least twice the scrape interval; a gauge may be this old when it counts.
LOOKBACK: Final = "2m"
# Nothing is concluded from numbers that were read longer ago than this: they are shown, and they are history.
CURRENT_S: Final = 120
# So long an alert that fires outlives the numbers that it rests on, while the list is not current.
UNLISTED_MEMORY: Final = "1h"

# Work waits and nobody asks for it. With the API's 30 s and the look-back: 4 min after the last poll. A rolling restart takes
# longer, but during one somebody always polls.
NOBODY_POLLING_FOR: Final = "90s"
# The same where the list cannot say whether workers are busy: no page, for a fleet of long sessions looks like this too.
NOBODY_POLLING_UNKNOWN_FOR: Final = "10m"
# Work waits at every moment of this window: a peak is shorter.
SATURATED_WINDOW: Final = "10m"
SATURATED_FOR: Final = "5m"
# Workers end their sessions and take no new ones: at least so many, and this share of those that were busy.
LEAVING_ITEMS: Final = 2
LEAVING_SHARE: Final = 0.2
LEAVING_WINDOWS: Final = ("10m", "15m", "25m", "40m")
LEAVING_MEMORY: Final = "10m"
LEAVING_SILENCE: Final = "5m"
LEAVING_FOR: Final = "2m"
# Workers declared always_on do not ask although they have nothing to do.
FLEET_ABSENT_FOR: Final = "10m"
# The API counts only workers that name themselves, so unknown is worth a note but wakes nobody.
WORKERS_UNKNOWN_FOR: Final = "15m"

# The wait objective: this share of items is acknowledged within the environment's wait_objective. The rest is the error budget.
OBJECTIVE_SHARE: Final = 0.95
# Age of the oldest item that waits, in multiples of the objective; in seconds where the objective is not known.
WAIT_WARNING_OBJECTIVES: Final = 2.5
WAIT_CRITICAL_OBJECTIVES: Final = 15
WAIT_OBJECTIVE_S: Final = 120
WAIT_WARNING_S: Final = 300
WAIT_CRITICAL_S: Final = 1800
WAIT_FOR: Final = "2m"
# While work waits at every moment, the oldest item's age falls whenever one is taken. The trouble has not gone with it.
WAIT_MEMORY: Final = "15m"
WAIT_CRITICAL_MEMORY: Final = "1h"
# So long an environment may be unreadable before an alert about what waits in it resolves.
BLIND_MEMORY: Final = "10m"
# How fast the budget of 30 days is spent, and how many items prove anything. 14.4: two per cent of it in an hour; 6: five in six.
FAST_BURN: Final = 14.4
FAST_BURN_ITEMS: Final = 6
SLOW_BURN: Final = 6
SLOW_BURN_ITEMS: Final = 20
BURN_FOR: Final = "2m"
# Panels only: the quantile that is shown beside the objective, and its window.
WAIT_OBJECTIVE_QUANTILE: Final = 0.95
WAIT_OBJECTIVE_WINDOW: Final = "30m"

# The backlog grew by this many items over the window, by the slope of all samples in it, and is at least as long.
BACKLOG_GROWTH_ITEMS: Final = 10
BACKLOG_GROWTH_WINDOW: Final = "30m"
BACKLOG_GROWTH_WINDOW_S: Final = 1800
BACKLOG_GROWTH_FOR: Final = "15m"

# Claimed and not acknowledged: a worker acknowledges within seconds, and the API hands the item out again after that.
# In a busy environment some item is always between the two, but never for long, so the oldest must have some age too.
PENDING_AGE_S: Final = 60
PENDING_FOR: Final = "5m"
# And nothing at all was acknowledged meanwhile: a total failure.
PENDING_TOTAL_WINDOW: Final = "3m"
PENDING_TOTAL_FOR: Final = "30s"

# Time an item may spend between its acknowledgement and its first heartbeat, and between the request to stop and the stop.
STARTING_S: Final = 300
STARTING_FOR: Final = "2m"
STOPPING_S: Final = 600
STOPPING_FOR: Final = "2m"
# So many items were acknowledged two minutes ago or earlier, and nothing has started since: whatever was deployed is broken.
NOTHING_STARTS_ITEMS: Final = 3
NOTHING_STARTS_FOR: Final = "30s"
# Of so many items nearly all ended within seconds of their start, and on the day before few did: they do no work any more.
RUNS_END_ITEMS: Final = 6
RUNS_END_SHARE: Final = 0.8
RUNS_END_SHARE_BEFORE: Final = 0.4
RUNS_END_S: Final = 5
RUNS_END_WINDOWS: Final = ("4m", "10m", "30m")
RUNS_END_BEFORE: Final = "1d"
RUNS_END_BEFORE_OFFSET: Final = "10m"
RUNS_END_FOR: Final = "30s"

# How old a heartbeat may be is the exporter's own setting, work.heartbeat_overdue.
HEARTBEATS_FOR: Final = "2m"
# So many, and so large a part of the active items: no longer one worker's trouble.
HEARTBEATS_CRITICAL_ITEMS: Final = 3
HEARTBEATS_CRITICAL_SHARE: Final = 0.5

# Items that stopped without ever having started. One may be somebody who changed their mind.
NEVER_STARTED_ITEMS: Final = 2
NEVER_STARTED_WINDOW: Final = "30m"
NEVER_STARTED_FOR: Final = "2m"

# An environment whose statistics cannot be read: its own alerts are blind meanwhile.
UNREADABLE_FOR: Final = "5m"
UNREADABLE_CRITICAL_FOR: Final = "30m"
# So large a part of a job's environments: the API, the network or the credential, no environment's own trouble.
FLEET_UNREADABLE_SHARE: Final = 0.5
FLEET_UNREADABLE_FOR: Final = "3m"
# Environments come back one by one. Until the last has, or for this long, it is the same trouble.
FLEET_UNREADABLE_MEMORY: Final = "15m"
# Age of the numbers shown. Above one scrape interval and below scrape.max_age, after which the exporter shows none. In more than
# half of the window, so that an age which grows and is renewed in turns is one trouble.
DATA_AGE_S: Final = 120
DATA_AGE_WINDOW: Final = "10m"
DATA_AGE_FOR: Final = "1m"
LISTING_FOR: Final = "30m"

# Credentials are refused for this long; shorter is a key that is being rotated.
AUTH_FOR: Final = "5m"
# Discovery asks for each workspace once per discovery.interval (5 min): this many failures of one within the window. Intervals up to 15 min are covered.
DISCOVERY_ERRORS: Final = 2
DISCOVERY_WINDOW: Final = "35m"
DISCOVERY_RECENT: Final = "17m"
DISCOVERY_FOR: Final = "1m"
# Share of reads that fail for a reason that has no alert of its own, of at least so many failures.
ERROR_RATIO: Final = 0.1
ERROR_COUNT: Final = 10
ERROR_WINDOW: Final = "15m"
ERROR_FOR: Final = "10m"
# The API answers 429 in every window for this long.
RATE_LIMITED_WINDOW: Final = "5m"
RATE_LIMITED_FOR: Final = "10m"
# Calls not made for want of budget, in every window for this long.
THROTTLED_WINDOW: Final = "5m"
THROTTLED_FOR: Final = "30m"

RELOAD_FOR: Final = "5m"
# Less than half of the scrapes of the window were answered: down, or so often down that it makes no difference.
EXPORTER_DOWN_WINDOW: Final = "5m"
EXPORTER_DOWN_SHARE: Final = 0.5
EXPORTER_DOWN_FOR: Final = "1m"
# An environment that an exporter showed within this time and that nobody shows now, while that exporter is not there.
UNWATCHED_WINDOW: Final = "1h"
UNWATCHED_FOR: Final = "2m"
REPLICA_DOWN_FOR: Final = "3m"
# Starts within the window. One is an update, two an update and a node that went away.
RESTARTS: Final = 3
RESTART_WINDOW: Final = "15m"
MISSING_WINDOW: Final = "5m"
NO_ENVIRONMENTS_FOR: Final = "10m"
# The API's clock and the exporter's differ by this much at some moment of the window. Ages are those of the API's clock and stay
# right; times shown beside others are not.
CLOCK_OFFSET_S: Final = 30
CLOCK_OFFSET_WINDOW: Final = "10m"
CLOCK_OFFSET_FOR: Final = "5m"
DRIFT_WINDOW: Final = "1h"
DRIFT_FOR: Final = "1m"

# Panels only: work that has just arrived may wake a worker, so nobody is missing yet. The alert waits for longer.
NOBODY_POLLING_S: Final = 30

# Panels only: below this share of the budget left a panel turns orange. No alert waits for it.
BUDGET_LEFT_RATIO: Final = 0.2
