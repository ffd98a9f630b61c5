"""Where links in alerts lead. A fork, or a copy inside a company, changes these lines and generates again."""

from __future__ import annotations

from typing import Final

REPOSITORY_URL: Final = "https://github.com/managed-agents-exporter/managed-agents-exporter"
RUNBOOK_URL: Final = REPOSITORY_URL + "/blob/main/docs/runbooks/{alert}.md"
# Where people reach Grafana; the address of config/compose.yml. A pager makes a link of it only with its scheme.
GRAFANA_URL: Final = "http://localhost:3000"
# Where people reach the exporter: what --web.external-url says, without a slash at the end. One of them, where there are several.
EXPORTER_URL: Final = "http://localhost:9831"
