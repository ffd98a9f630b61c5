"""The shipped rules with a shorter wait, for tests that let a real Prometheus evaluate them."""

from __future__ import annotations

from pathlib import Path

import yaml

RULES = Path(__file__).parents[2] / "config/prometheus/rules"
# The demo's numbers change every 10 s (scrape.min_interval). An item of the webhook fleet may wait through one such reading
# until a worker has woken; it does not wait through two.
SHORTENED_FOR = "15s"


def shortened_rules(directory: Path) -> list[str]:
    """Copy the rules with shorter waits: for ManagedAgentsNobodyPolling, for the long objectives, and for arrivals to be believed."""
    copies = []
    for source in sorted(RULES.glob("*.yml")):
        document = yaml.safe_load(source.read_text())
        for group in document["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                if rule.get("alert") == "ManagedAgentsNobodyPolling":
                    rule["for"] = SHORTENED_FOR
                rule["expr"] = rule["expr"].replace("offset 4m", "offset 10s")
        copy = directory / source.name
        copy.write_text(yaml.safe_dump(document))
        copies.append(str(copy))
    return copies
