"""The manifests: valid by the API's own schemas, hardened, and true to the program they start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

import exporter
from config.kubernetes import prometheus_rule
from exporter import flags
from exporter.config import load as config
from exporter.web.routes import TAKEN_PATHS
from tests.ample import AMPLE_S
from tests.shipped.manifest_schemas import validate
from tests.shipped.test_keda import ENVIRONMENT_ID

ROOT = Path(__file__).parents[2]
HERE = ROOT / "config/kubernetes"
NAME = "managed-agents-exporter"
PORT = 9831
MANIFESTS = sorted(path for path in HERE.glob("*.yaml") if path.name != "kustomization.yaml")


def manifest(name: str) -> Any:
    (document,) = yaml.safe_load_all((HERE / f"{name}.yaml").read_text())
    return document


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_is_valid_by_its_schema_and_has_no_unknown_field(path: Path) -> None:
    document = manifest(path.stem)
    if document["kind"] == "ScaledObject":
        # Newer than the schema that is to be had for this Python; test_keda.py has what it must be.
        assert document["spec"]["fallback"].pop("behavior")
    validate(document)


def test_a_field_that_does_not_exist_would_be_noticed() -> None:
    document = manifest("deployment")
    document["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFilesystem"):
        validate(document)
    monitor = manifest("servicemonitor")
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    with pytest.raises(AssertionError):
        validate(monitor)


def test_the_pod_has_no_rights() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] >= 10_000
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod().keys()
    assert not any("hostPath" in volume for volume in pod()["volumes"])


def test_the_pod_has_its_resources_and_every_probe() -> None:
    resources = container()["resources"]
    assert resources["requests"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert "memory" in resources["limits"]
    probes = {name: container()[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startupProbe": "/-/ready",
        "livenessProbe": "/-/healthy",
        "readinessProbe": "/-/ready",
    }
    assert {probe["path"] for probe in probes.values()} <= TAKEN_PATHS
    assert {probe["port"] for probe in probes.values()} == {"http"}


def test_the_image_is_this_version_in_the_deployment_itself() -> None:
    assert container()["image"] == f"ghcr.io/managed-agents-exporter/{NAME}:{exporter.__version__}"
    assert "images" not in yaml.safe_load((HERE / "kustomization.yaml").read_text())


def test_the_memory_is_what_was_measured_and_some_more() -> None:
    sizes = json.loads((ROOT / "docs/benchmarks/results.json").read_text())["sizes"]
    measured = {size["environments"]: size["rss_mib"] for size in sizes if size["busy"]}
    resources = container()["resources"]
    request, limit = (int(resources[kind]["memory"].removesuffix("Mi")) for kind in ("requests", "limits"))
    assert 1.25 * measured[100] <= request <= 1.5 * measured[100]
    assert 1.9 * measured[1_000] <= limit <= 2.5 * measured[1_000]
    assert f"the limit of {limit} MiB" in (ROOT / "docs/deploy.md").read_text()


def test_secrets_are_files_that_arrive_anew_and_no_variable() -> None:
    assert "env" not in container()
    assert "envFrom" not in container()
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod()["volumes"]}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts.values())


def test_the_arguments_are_ones_that_the_program_takes() -> None:
    options = flags.parser().parse_args(container()["args"])
    mounts = [mount["mountPath"] for mount in container()["volumeMounts"]]
    assert str(Path(getattr(options, "config.file")).parent) in mounts
    assert Path(getattr(options, "config.file")).name in manifest_files()
    assert getattr(options, "web.listen-address") == [f":{PORT}"]


def manifest_files() -> set[str]:
    kustomization = yaml.safe_load((HERE / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    (volume,) = (each for each in pod()["volumes"] if "configMap" in each)
    assert volume["configMap"]["name"] == generated["name"]
    return set(generated["files"])


def test_the_configuration_is_one_that_the_program_takes(tmp_path: Path) -> None:
    (secrets,) = (mount["mountPath"] for mount in container()["volumeMounts"] if mount["name"] == "secrets")
    for name in ("api-key", "production"):
        (tmp_path / name).write_text("sk-ant-made-up")
    text = (HERE / "exporter.yml").read_text()
    assert f"{secrets}/api-key" in text
    as_shipped = config.parse(text.replace(secrets, str(tmp_path)), directory=tmp_path, environ={})
    assert as_shipped.discovery.enabled
    begun = text.index("# environments:")
    uncommented = text[:begun] + re.sub(r"^# ", "", text[begun:], flags=re.MULTILINE)
    with_environment = config.parse(uncommented.replace(secrets, str(tmp_path)), directory=tmp_path, environ={})
    assert [each.name for each in with_environment.environments] == ["production"]


def test_everything_that_selects_selects_the_pod_or_its_service() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == labels
    service = manifest("service")["metadata"]
    monitor = manifest("servicemonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["labels"].items()
    assert service["labels"][monitor["jobLabel"]] == "managed-agents"


def test_ports_and_addresses_meet() -> None:
    (port,) = container()["ports"]
    assert (port["name"], port["containerPort"]) == ("http", PORT)
    (service_port,) = manifest("service")["spec"]["ports"]
    assert (service_port["name"], service_port["port"], service_port["targetPort"]) == ("http", PORT, "http")
    (endpoint,) = manifest("servicemonitor")["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert manifest("networkpolicy")["spec"]["ingress"][0]["ports"] == [{"port": "http", "protocol": "TCP"}]
    address = f"{manifest('service')['metadata']['name']}:{PORT}"
    assert manifest("probe")["spec"]["prober"]["url"] == address
    scrape_config = manifest("scrapeconfig")["spec"]
    assert scrape_config["httpSDConfigs"][0]["url"] == f"http://{address}/sd"
    assert scrape_config["relabelings"][-1] == {"targetLabel": "__address__", "replacement": address}


def test_whatever_scrapes_is_the_job_that_the_alerts_ask_for() -> None:
    assert manifest("probe")["spec"]["jobName"] == "managed-agents"
    assert manifest("scrapeconfig")["spec"]["jobName"] == "managed-agents"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a packet of the pod goes, as a network plug-in sees it: to a pod of a namespace, or to any other address."""

    address: str
    port: int
    protocol: str = "UDP"
    namespace: str | None = None


def lets_out(destination: Destination) -> bool:
    return any(
        {"port": destination.port, "protocol": destination.protocol} in rule["ports"]
        and any(is_peer(peer, destination) for peer in rule["to"])
        for rule in manifest("networkpolicy")["spec"]["egress"]
    )


def is_peer(peer: Any, destination: Destination) -> bool:
    if "ipBlock" not in peer:
        (namespaces,) = peer["namespaceSelector"]["matchExpressions"]
        assert (namespaces["key"], namespaces["operator"]) == ("kubernetes.io/metadata.name", "In")
        return destination.namespace in namespaces["values"]
    address = ip_address(destination.address)
    block = peer["ipBlock"]
    within = (address in ip_network(cidr) for cidr in (block["cidr"], *block.get("except", ())))
    return destination.namespace is None and next(within) and not any(within)


@pytest.mark.parametrize(
    "destination",
    [
        pytest.param(Destination("10.8.0.3", 53, namespace="kube-system"), id="cluster DNS"),
        pytest.param(Destination("10.8.0.3", 53, "TCP", namespace="kube-system"), id="cluster DNS over TCP"),
        pytest.param(Destination("10.128.0.5", 5353, namespace="openshift-dns"), id="OpenShift's DNS"),
        pytest.param(Destination("10.128.0.5", 5353, "TCP", namespace="openshift-dns"), id="OpenShift's DNS over TCP"),
        pytest.param(Destination("169.254.20.10", 53), id="NodeLocal DNSCache"),
        pytest.param(Destination("169.254.25.10", 53), id="NodeLocal DNSCache of Kubespray"),
        pytest.param(Destination("10.96.0.10", 53), id="NodeLocal DNSCache on the service's address"),
        pytest.param(Destination("169.254.169.254", 53), id="a cloud's DNS on the metadata address"),
        pytest.param(Destination("fd00:10:96::a", 53), id="cluster DNS over IPv6"),
        pytest.param(Destination("203.0.113.7", 443, "TCP"), id="the API"),
        pytest.param(Destination("2001:db8::7", 443, "TCP"), id="the API over IPv6"),
    ],
)
def test_names_and_the_api_are_reached_in_every_kind_of_cluster(destination: Destination) -> None:
    assert lets_out(destination)


@pytest.mark.parametrize(
    "destination",
    [
        pytest.param(Destination("169.254.169.254", 80, "TCP"), id="a cloud's metadata"),
        pytest.param(Destination("169.254.169.254", 443, "TCP"), id="a cloud's metadata over TLS"),
        pytest.param(Destination("10.0.0.1", 443, "TCP"), id="the cluster's API"),
        pytest.param(Destination("10.8.0.9", 443, "TCP", namespace="default"), id="a pod"),
        pytest.param(Destination("10.8.0.9", 5353, namespace="default"), id="a pod on OpenShift's port"),
        pytest.param(Destination("203.0.113.7", 53), id="a name server of somebody else"),
        pytest.param(Destination("203.0.113.7", 80, "TCP"), id="the API without TLS"),
        pytest.param(Destination("fd00::1", 443, "TCP"), id="a private address over IPv6"),
    ],
)
def test_nothing_else_is_reached(destination: Destination) -> None:
    assert not lets_out(destination)


def test_the_shipped_rules_are_the_rules() -> None:
    assert prometheus_rule.main(["--check"]) == 0
    shipped = manifest("prometheusrule")["spec"]["groups"]
    assert shipped == prometheus_rule.rule_groups(prometheus_rule.RULES)


def test_a_rule_that_was_changed_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "prometheusrule.yaml"
    assert prometheus_rule.main(["--check"], target=target) == 1
    assert "python -m config.kubernetes.prometheus_rule" in capsys.readouterr().err
    assert prometheus_rule.main([], target=target) == 0
    assert prometheus_rule.main(["--check"], target=target) == 0
    target.write_text(target.read_text().replace("> 300", "> 301"))
    assert prometheus_rule.main(["--check"], target=target) == 1


def test_the_scaled_object_is_of_the_environment_that_the_examples_are_of() -> None:
    query = manifest("scaledobject")["spec"]["triggers"][0]["metadata"]["query"]
    assert set(re.findall(r'environment_id="(\w+)"', query)) == {ENVIRONMENT_ID}
    assert query.count("{") == query.count(ENVIRONMENT_ID)


def test_every_manifest_is_in_the_kustomization_or_named_there_as_a_choice() -> None:
    text = (HERE / "kustomization.yaml").read_text()
    mentioned = set(re.findall(r"^ +(?:# )?- ([a-z]+\.yaml)$", text, re.MULTILINE))
    assert mentioned == {path.name for path in MANIFESTS}
    chosen = yaml.safe_load(text)["resources"]
    assert {"probe.yaml", "scrapeconfig.yaml", "scaledobject.yaml"}.isdisjoint(chosen)


KUSTOMIZE = next(
    ([*command] for command in (("kustomize", "build"), ("kubectl", "kustomize")) if shutil.which(command[0])), None
)


@pytest.mark.skipif(KUSTOMIZE is None, reason="kustomize builds it: .ci/kubernetes-tools builds kustomize")
def test_the_kustomization_builds() -> None:
    assert KUSTOMIZE is not None
    ended = subprocess.run([*KUSTOMIZE, str(HERE)], capture_output=True, text=True, check=False, timeout=AMPLE_S)
    assert ended.returncode == 0, ended.stderr
    built = {document["kind"]: document for document in yaml.safe_load_all(ended.stdout)}
    assert built.keys() == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PrometheusRule",
        "Service",
        "ServiceMonitor",
    }
    config_map = built["ConfigMap"]["metadata"]["name"]
    volumes = built["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert config_map.startswith(f"{NAME}-")
    assert config_map in {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    for document in built.values():
        validate(document)
