"""Write what the chart and the kustomization are made of. `--check` writes nothing and fails when a file is stale.

python -m config.helm.generate [--check]

The chart's rules come from dashboards/rules.py, its dashboards from dashboards/, its README from values.yaml, and the manifests in
config/kubernetes from its templates. For the last helm is needed; without it they are left as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CHART: Final = HERE / "managed-agents-exporter"
FILES: Final = CHART / "files"
KUBERNETES: Final = "1.31"
MANIFESTS: Final = ROOT / "config/kubernetes"
WRITTEN: Final = "# Written by `python -m config.helm.generate` from {source}. Change that and write it again.\n"
IN_NAMES: Final = re.compile("WINDOW|QUANTILE")
# The constants of dashboards/addresses.py, and what stands for them in the chart's files: `links` in values.yaml replaces it.
LINKS: Final = {
    "GRAFANA_URL": "<<grafanaUrl>>",
    "EXPORTER_URL": "<<exporterUrl>>",
    "RUNBOOK_URL": "<<runbooksUrl>>/{alert}.md",
}
# What says that helm installed an object is wrong in a kustomization, whose namespace is the user's choice.
HELM_ONLY: Final = re.compile(
    r"^ *(helm\.sh/chart|app\.kubernetes\.io/(managed-by|instance)|namespace): .*\n", re.MULTILINE
)


# ---- rules with the thresholds' names in place of the numbers


class _NamedText(str):
    __slots__ = ("name",)
    name: str

    def __format__(self, spec: str) -> str:
        return format(str.__str__(self), spec) if spec else f"<<{self.name}>>"


class _NamedNumber(float):
    name: str

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else f"<<{self.name}>>"


def _named(name: str, value: str | float) -> _NamedText | _NamedNumber:
    """Return a value that counts as it does and is written as its name in angle brackets."""
    named = _NamedText(value) if isinstance(value, str) else _NamedNumber(value)
    named.name = name
    return named


def threshold_name(constant: str) -> str:
    """Return the name in values.yaml: WAIT_WARNING_S is waitWarningSeconds."""
    first, *rest = re.sub(r"_S$", "_SECONDS", constant).lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


@contextmanager
def _dashboards_anew() -> Iterator[None]:
    """Let the block import the package `dashboards` for itself: everybody else keeps the one with the numbers."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "dashboards"}
    for name in kept:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [each for each in sys.modules if each.split(".")[0] == "dashboards"]:
            del sys.modules[name]
        sys.modules.update(kept)


def _generated(changed: Mapping[str, Mapping[str, str | float]], folder: str) -> dict[str, str]:
    """Return the generated files of that folder, by name, as they are with other constants in those modules of `dashboards`."""
    with _dashboards_anew():
        for module, value_by_constant in changed.items():
            for constant, value in value_by_constant.items():
                setattr(importlib.import_module(f"dashboards.{module}"), constant, value)
        generated = importlib.import_module("dashboards.generate").generated(ROOT)
    return {path.name: text for path, text in generated.items() if path.parent.name == folder}


def rules() -> tuple[dict[str, str], dict[str, str | float]]:
    """Return the rule files with names for numbers, and the numbers by name.

    Windows and quantiles stay numbers: they are in the names of series (`…:max_increase30m`) that dashboards ask for.
    """
    constants = vars(importlib.import_module("dashboards.thresholds"))
    value_by_constant = {
        constant: value
        for constant, value in constants.items()
        if constant.isupper() and isinstance(value, str | int | float) and not IN_NAMES.search(constant)
    }
    named = {constant: _named(threshold_name(constant), value) for constant, value in value_by_constant.items()}
    texts = _generated({"thresholds": named, "addresses": LINKS}, "rules")
    used = set(re.findall(r"<<(\w+)>>", "".join(texts.values())))
    defaults = {threshold_name(constant): value for constant, value in value_by_constant.items()}
    return texts, {name: value for name, value in defaults.items() if name in used}


# ---- the README


def _rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield each documented key of values.yaml, with dots, and what its comment says."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if said := re.match(r" *# (-- )?(.*)", line):
            comment = [said[2]] if said[1] else [*comment, said[2]] if comment else []
            continue
        if key := re.match(r"( *)([\w.]+):", line):
            path = [*((indent, name) for indent, name in path if indent < len(key[1])), (len(key[1]), key[2])]
            if comment:
                yield ".".join(name for _, name in path), " ".join(comment)
        comment = []


def _default(values: Any, key: str) -> str:
    for name in key.split("."):
        values = values[name]
    shown = json.dumps(values, ensure_ascii=False)
    return f"`{shown}`" if len(shown) <= 80 else "see `values.yaml`"  # noqa: PLR2004 -- a column's width


def readme(thresholds: Mapping[str, str | float]) -> str:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    rows = [f"| `{key}` | {_default(values, key)} | {meaning} |" for key, meaning in _rows(text)]
    numbers = [f"| `{name}` | `{value}` |" for name, value in sorted(thresholds.items())]
    template = (HERE / "README.template.md").read_text(encoding="utf-8")
    return template.replace("VALUES\n", "\n".join([*rows, ""])).replace("THRESHOLDS\n", "\n".join([*numbers, ""]))


# ---- the kustomization's manifests


def manifests(helm: str) -> dict[Path, str]:
    """Return the kustomization's manifests as the chart has them with kustomize-values.yaml."""
    values = f"--values={HERE / 'kustomize-values.yaml'}"
    command = [helm, "template", CHART.name, str(CHART), f"--kube-version={KUBERNETES}", values]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 -- no user's words in it
    if ended.returncode:
        raise SystemExit(ended.stderr)
    header = WRITTEN.format(source="the chart and config/helm/kustomize-values.yaml")
    found = {}
    for document in re.split(r"^---\n", ended.stdout, flags=re.MULTILINE):
        source, _, text = document.partition("\n")
        if text.strip():
            found[MANIFESTS / Path(source).name] = header + HELM_ONLY.sub("", text.strip() + "\n")
    return found


# ---- all of it


def chart_files() -> dict[Path, str]:
    """Return the chart's generated files and what belongs into each."""
    texts, thresholds = rules()
    source = "config/prometheus/prometheus-sharded.yml"
    sharded = yaml.safe_load((ROOT / source).read_text(encoding="utf-8"))
    (own,) = (job["params"]["name[]"] for job in sharded["scrape_configs"] if "params" in job)
    dashboards = _generated({"addresses": LINKS}, "dashboards")
    return {
        **{FILES / "rules" / name: text for name, text in texts.items()},
        **{FILES / "dashboards" / name: text for name, text in dashboards.items()},
        FILES / "thresholds.yml": _yaml(thresholds, source="dashboards/thresholds.py"),
        FILES / "exporter-metrics.yml": _yaml(own, source=source),
        CHART / "README.md": readme(thresholds),
    }


def _yaml(value: Any, *, source: str) -> str:
    return WRITTEN.format(source=source) + yaml.safe_dump(value, sort_keys=False, width=120)


def superfluous(files: Mapping[Path, str]) -> list[Path]:
    """Return the chart's rule files and dashboards that nothing makes any more."""
    return [path for folder in ("rules", "dashboards") for path in (FILES / folder).glob("*") if path not in files]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    write = not parser.parse_args(arguments).check
    files = chart_files()
    stale = _brought_up_to_date(files, superfluous(files), write=write)
    if helm := shutil.which("helm"):
        stale |= _brought_up_to_date(manifests(helm), [], write=write)
    else:
        sys.stderr.write("config/kubernetes stays as it is: helm is not there (.ci/kubernetes-tools builds it)\n")
    return 1 if stale and not write else 0


def _brought_up_to_date(files: Mapping[Path, str], gone: Sequence[Path], *, write: bool) -> bool:
    """Write or only name the files that differ, and return whether there were any."""
    stale = [path for path, text in files.items() if _read(path) != text]
    for path in [*stale, *gone]:
        sys.stderr.write(f"{'written' if write else 'stale'}: {path.relative_to(ROOT)}\n")
    if write:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        for path in gone:
            path.unlink()
    return bool(stale or gone)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
