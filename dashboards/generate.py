"""Write the dashboards, the rule files and what the documentation quotes of them. `--check` writes nothing and fails when any of them is stale.

python -m dashboards.generate [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dashboards.environment import environment
from dashboards.exporter_itself import exporter_itself
from dashboards.overview import overview
from dashboards.rule_files import alert_table, rule_files, runbook_heads

if TYPE_CHECKING:
    from dashboards.panels import Json

ROOT: Final = Path(__file__).parents[1]
BEGINS: Final = "<!-- {part}: written by python -m dashboards.generate -->\n"
ENDS: Final = "<!-- end of {part} -->"


def generated(root: Path = ROOT) -> dict[Path, str]:
    """Every generated file and what belongs into it. Of the documentation only the marked parts are generated."""
    pages = {root / "docs/alerts.md": ("the table of alerts", alert_table())}
    for name, head in runbook_heads().items():
        pages[root / f"docs/runbooks/{name}.md"] = ("the rule", head)
    return {
        root / "dashboards/overview.json": _text(overview()),
        root / "dashboards/environment.json": _text(environment()),
        root / "dashboards/exporter.json": _text(exporter_itself()),
        **{root / "config/prometheus/rules" / name: text for name, text in rule_files().items()},
        **{path: _with_part(path.read_text(encoding="utf-8"), *part) for path, part in pages.items()},
    }


def _text(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _with_part(page: str, part: str, text: str) -> str:
    begins, ends = BEGINS.format(part=part), ENDS.format(part=part)
    before, _, rest = page.partition(begins)
    _, end, after = rest.partition(ends)
    if not end:
        raise ValueError(f"no place for {part}: {begins.strip()} … {ends} is missing")
    return f"{before}{begins}{text}\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    check = parser.parse_args(arguments).check
    stale = {path: text for path, text in generated().items() if _read(path) != text}
    for path, text in stale.items():
        sys.stderr.write(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
