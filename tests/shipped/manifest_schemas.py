"""What the cluster's API accepts, from the schemas that Python packages bring along: nothing is asked of a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import Probe, PrometheusRule, ServiceMonitor
from cloudcoil.models.prometheus_operator.v1alpha1 import ScrapeConfig

if TYPE_CHECKING:
    from pydantic import BaseModel

KUBERNETES = "1.31"
MODEL_BY_KIND: dict[str, type[BaseModel]] = {
    "ServiceMonitor": ServiceMonitor,
    "Probe": Probe,
    "PrometheusRule": PrometheusRule,
    "ScrapeConfig": ScrapeConfig,
    "ScaledObject": ScaledObject,
}
_CORE = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict"


def validate(document: dict[str, Any]) -> None:
    """Fail where the API would refuse the object, or would drop a field that it does not know."""
    model = MODEL_BY_KIND.get(document["kind"])
    if model is None:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    read = model.model_validate(document)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == document


def write_kubeconform_schemas(directory: Path, documents: list[dict[str, Any]]) -> str:
    """Write a schema for each kind among the documents, and return the location that kubeconform takes."""
    definitions = json.loads((_CORE / "_definitions.json").read_text())["$defs"]
    for document in documents:
        kind, version = document["kind"], document["apiVersion"].removesuffix(".k8s.io").replace(".k8s.io/", "/")
        if kind in MODEL_BY_KIND:
            schema = _closed(MODEL_BY_KIND[kind].model_json_schema(by_alias=True))
        else:
            text = (_CORE / f"{kind}-{version.replace('/', '-')}.json".lower()).read_text()
            schema = json.loads(text.replace("/api/_definitions.json#", "#")) | {"$defs": definitions}
        (directory / f"{kind.lower()}.json").write_text(json.dumps(schema))
    return f"{directory}/{{{{.ResourceKind}}}}.json"


def _closed(schema: Any) -> Any:
    """Return the schema as one that knows no further fields."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False} | closed if "properties" in closed else closed
