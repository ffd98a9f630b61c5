"""Every number that decides when an alert fires or a panel changes colour. The one place to change them.

After a change run `python -m dashboards.generate` and have Prometheus reload its rules: rules, dashboards and the table in
docs/alerts.md follow. Durations are written the way Prometheus writes them; a name that ends in `_S` is a number of seconds.
"""

from __future__ import annotations

from typing import Final

# A read or scrape that fails makes series absent for a moment, and an expression that is absent once restarts `for`. So the
# rules look back this far for the latest value. At least twice the scrape interval; a gauge may be this old when it counts.
LOOKBACK: Final = "2m"
# The listing is what a short budget gives up first. Whether workers are busy is therefore remembered for longer.
BUSY_LOOKBACK: Final = "10m"

# Work waits and nobody asks for it. Longer than a rolling restart of the workers takes.
NOBODY_POLLING_FOR: Final = "3m"
# All workers are busy and work waits. Shorter than this is a peak, not a shortage.
SATURATED_FOR: Final = "10m"
# Workers declared always_on do not ask although they have nothing to do.
FLEET_ABSENT_FOR: Final = "10m"
# The API counts only workers that name themselves, so unknown is worth a note but wakes nobody.
WORKERS_UNKNOWN_FOR: Final = "15m"

# Age of the oldest item that waits.
WAIT_WARNING_S: Final = 300
WAIT_CRITICAL_S: Final = 1800
WAIT_FOR: Final = "2m"

# The backlog grew by this many items over the window, by the slope of all samples in it, and is at least as long.
BACKLOG_GROWTH_ITEMS: Final = 10
BACKLOG_GROWTH_WINDOW: Final = "30m"
BACKLOG_GROWTH_WINDOW_S: Final = 1800
BACKLOG_GROWTH_FOR: Final = "15m"

# The wait-time objective: this share of items is acknowledged within this time of being created. The objective is one of the
# default buckets of the exporter's histograms, so no interpolation is involved. Fewer items than the minimum prove nothing.
WAIT_OBJECTIVE_S: Final = 120
WAIT_OBJECTIVE_QUANTILE: Final = 0.95
WAIT_OBJECTIVE_WINDOW: Final = "1h"
WAIT_OBJECTIVE_MIN_ITEMS: Final = 20
WAIT_OBJECTIVE_FOR: Final = "10m"

# Claimed and not acknowledged: a worker acknowledges within seconds, and the API hands the item out again after that.
# In a busy environment some item is always between the two, but never for long, so the oldest must have some age too.
PENDING_AGE_S: Final = 60
PENDING_FOR: Final = "5m"

# Time an item may spend between its acknowledgement and its first heartbeat, and between the request to stop and the stop.
STARTING_S: Final = 300
STARTING_FOR: Final = "2m"
STOPPING_S: Final = 600
STOPPING_FOR: Final = "2m"

# How old a heartbeat may be is the exporter's own setting, work.heartbeat_overdue.
HEARTBEATS_FOR: Final = "2m"

# Items that stopped without ever having started. One may be somebody who changed their mind.
NEVER_STARTED_ITEMS: Final = 2
NEVER_STARTED_WINDOW: Final = "30m"
NEVER_STARTED_FOR: Final = "2m"

# An environment whose statistics cannot be read: its own alerts are blind meanwhile.
UNREADABLE_FOR: Final = "5m"
UNREADABLE_CRITICAL_FOR: Final = "30m"
# Age of the numbers shown. Above one scrape interval and below scrape.max_age, after which the exporter shows none.
DATA_AGE_S: Final = 120
DATA_AGE_FOR: Final = "1m"
LISTING_FOR: Final = "30m"

# Reads refused with 401 or 403; fewer are a key that is being rotated.
AUTH_ERRORS: Final = 3
AUTH_WINDOW: Final = "10m"
AUTH_FOR: Final = "2m"
# Share of API calls that fail for a reason that has no alert of its own.
ERROR_RATIO: Final = 0.1
ERROR_WINDOW: Final = "15m"
ERROR_FOR: Final = "10m"
# Calls not made for want of budget, in every window for this long.
THROTTLED_WINDOW: Final = "10m"
THROTTLED_FOR: Final = "30m"

RELOAD_FOR: Final = "5m"
EXPORTER_DOWN_FOR: Final = "2m"
NO_ENVIRONMENTS_FOR: Final = "10m"
DRIFT_WINDOW: Final = "1h"
DRIFT_FOR: Final = "5m"

# Panels only: below this share of the budget left a panel turns orange. No alert waits for it.
BUDGET_LEFT_RATIO: Final = 0.2
