"""The Helm chart: what its values make is valid by the API's schemas, and is what the program takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

import exporter
from config.helm import generate
from config.kubernetes import prometheus_rule
from exporter import flags
from exporter.config import load as config
from exporter.web import web_config
from tests.ample import AMPLE_S
from tests.shipped.manifest_schemas import KUBERNETES, validate, write_kubeconform_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

CHART = generate.CHART
VALUE_SETS = sorted((Path(__file__).parent / "helm_values").glob("*.yaml"))
README = (CHART / "README.md").read_text()
RELEASE, NAMESPACE = "rel", "agents"
IMAGE = f"managed-agents-exporter/managed-agents-exporter:{exporter.__version__}"
Documents = list[dict[str, Any]]

needs_helm = pytest.mark.skipif(
    shutil.which("helm") is None, reason="helm renders the chart: .ci/kubernetes-tools builds it"
)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["helm", *arguments, f"--kube-version={KUBERNETES}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=AMPLE_S)


@cache
def rendered(*arguments: str) -> Documents:
    ended = helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *arguments)
    assert ended.returncode == 0, ended.stderr
    return [document for document in yaml.safe_load_all(ended.stdout) if document is not None]


def of_set(name: str) -> Documents:
    return rendered(f"--values={Path(__file__).parent / 'helm_values' / f'{name}.yaml'}")


def refused(*arguments: str) -> str:
    ended = helm("template", RELEASE, str(CHART), *arguments)
    assert ended.returncode != 0, "it should have been refused"
    return ended.stderr


def the(documents: Documents, kind: str) -> dict[str, Any]:
    (only,) = (document for document in documents if document["kind"] == kind)
    return only


def kinds(documents: Documents) -> list[str]:
    return sorted(document["kind"] for document in documents)


def pod(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = the(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(documents: Documents) -> dict[str, Any]:
    (only,) = (each for each in pod(documents)["containers"] if each["name"] == "exporter")
    assert isinstance(only, dict)
    return only


# ---- without helm


def test_what_is_generated_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_chart_and_exporter_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (exporter.__version__, exporter.__version__)


def test_rules_with_the_shipped_thresholds_are_the_rules() -> None:
    thresholds = yaml.safe_load((generate.FILES / "thresholds.yml").read_text())
    files = {path.name: path.read_text() for path in (generate.FILES / "rules").iterdir()}
    shipped = {path.name: yaml.safe_load(path.read_text()) for path in prometheus_rule.RULES.glob("*.yml")}
    links = yaml.safe_load((CHART / "values.yaml").read_text())["links"]
    for name, value in (*thresholds.items(), *((f"{link}Url", url) for link, url in links.items())):
        files = {file: text.replace(f"<<{name}>>", str(value)) for file, text in files.items()}
    assert {name: yaml.safe_load(text) for name, text in files.items()} == shipped


def test_every_duration_of_an_alert_can_be_set() -> None:
    texts, thresholds = generate.rules()
    held = re.findall(r"^ +for: (.*)$", "".join(texts.values()), re.MULTILINE)
    at_once = "0s"
    assert set(held) - {at_once}
    assert {hold.removeprefix("<<").removesuffix(">>") for hold in held} - {at_once} <= thresholds.keys()


def test_every_value_has_its_row_in_the_readme() -> None:
    rows = set(re.findall(r"^\| `([\w.]+)` \|.*\|.*\|$", README, re.MULTILINE))
    assert set(documented_keys(yaml.safe_load((CHART / "values.yaml").read_text()), rows)) == rows


def documented_keys(values: dict[str, Any], rows: set[str], above: str = "") -> Iterator[str]:
    """Yield the key of each leaf, where a key with a row of its own is one."""
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and path not in rows:
            yield from documented_keys(value, rows, f"{path}.")
        elif path not in yaml.safe_load((generate.FILES / "thresholds.yml").read_text()):
            yield path


def test_schema_and_values_have_the_same_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["properties"].keys() == values.keys()
    for key, value in values.items():
        known = schema["properties"][key]
        if known.get("additionalProperties") is False:
            assert known["properties"].keys() >= value.keys(), key
        jsonschema.validate(value, known | {"$defs": schema["$defs"]})


@pytest.mark.parametrize(
    "values",
    [
        {"serviceMonitor": {"enable": True}},
        {"serviceMonitor": {"interval": "15 seconds"}},
        {"serviceMonitor": {"scope": "environments"}},
        {"replicaCount": 2},
        {"replicas": "2"},
        {"config": {"apis": {}}},
        {"image": {"digest": "latest"}},
        {"secret": {"mountPath": "run/secrets"}},
        {"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}},
        {"service": {"port": 0}},
        {"extraArgs": ["log.level=debug"]},
        {"log": {"level": "warning"}},
        {"ingress": {"enabled": True, "hosts": ["example.com"]}},
    ],
    ids=json.dumps,
)
def test_a_value_that_would_be_ignored_or_break_the_pod_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text()))


# ---- with helm


@needs_helm
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_lint_has_nothing_to_say(path: Path) -> None:
    ended = helm("lint", "--strict", str(CHART), f"--values={path}")
    assert ended.returncode == 0, ended.stdout
    assert re.findall(r"^\[(?:WARNING|ERROR)\].*$", ended.stdout, re.MULTILINE) == []


@needs_helm
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_every_object_is_valid_by_its_schema_and_has_a_name_of_its_own(path: Path) -> None:
    documents = of_set(path.stem)
    for document in documents:
        validate(document)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(set(names)) == len(names)


@needs_helm
@pytest.mark.skipif(shutil.which("kubeconform") is None, reason=".ci/kubernetes-tools builds kubeconform")
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_kubeconform_finds_every_object_valid(path: Path, tmp_path: Path) -> None:
    documents = of_set(path.stem)
    location = write_kubeconform_schemas(tmp_path, documents)
    command = ["kubeconform", "-strict", "-summary", "-output=json", f"-schema-location={location}", "-"]
    ended = subprocess.run(
        command, input=yaml.safe_dump_all(documents), capture_output=True, text=True, check=False, timeout=AMPLE_S
    )
    assert json.loads(ended.stdout)["summary"] == {
        "valid": len(documents),
        "invalid": 0,
        "errors": 0,
        "skipped": 0,
    }, ended.stdout


@needs_helm
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_arguments_mounts_and_configuration_are_ones_that_the_program_takes(path: Path, tmp_path: Path) -> None:
    documents = of_set(path.stem)
    options = flags.parser().parse_args(container(documents)["args"])
    mounts = {mount["name"]: mount for mount in container(documents).get("volumeMounts", [])}
    assert mounts.keys() == {volume["name"] for volume in pod(documents).get("volumes", [])}
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts.values())
    if file := getattr(options, "config.file"):
        assert Path(file).parent == Path(mounts["config"]["mountPath"])
    if file := getattr(options, "web.config.file"):
        assert Path(file).parent == Path(mounts["web"]["mountPath"])
    (port,) = container(documents)["ports"]
    assert getattr(options, "web.listen-address") == [f":{port['containerPort']}"]
    for document in documents:
        if text := document.get("data", {}).get("exporter.yml"):
            variables = {each["name"]: "sk-ant-made-up" for each in container(documents).get("env", [])}
            config.parse(with_made_up_files(text, tmp_path), directory=tmp_path, environ=variables)


@needs_helm
@pytest.mark.parametrize(
    "values", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL), ids=["api key", "environment keys"]
)
def test_the_readmes_values_make_a_configuration_that_the_program_takes(values: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(values)
    (text,) = (
        document["data"]["exporter.yml"]
        for document in rendered(f"--values={tmp_path}/values.yaml")
        if "exporter.yml" in document.get("data", {})
    )
    read = config.parse(with_made_up_files(text, tmp_path), directory=tmp_path, environ={})
    assert (read.api.api_key is None, read.discovery.enabled) in {(False, True), (True, False)}
    assert read.discovery.enabled or read.environments


def with_made_up_files(text: str, directory: Path) -> str:
    """Let every credential's path lead to a file that is there."""
    for path in re.findall(r"_file: (\S+)", text):
        (directory / Path(path).name).write_text("sk-ant-made-up")
        text = text.replace(path, str(directory / Path(path).name))
    return text


@needs_helm
@pytest.mark.parametrize("path", VALUE_SETS, ids=lambda path: path.stem)
def test_everything_that_selects_selects_the_pods_or_their_service(path: Path) -> None:
    documents = of_set(path.stem)
    labels = the(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service = the(documents, "Service")
    selectors = [the(documents, "Deployment")["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [
        document["spec"].get("podSelector", document["spec"].get("selector"))["matchLabels"]
        for document in documents
        if document["kind"] in {"NetworkPolicy", "PodDisruptionBudget"}
    ]
    selectors += [each["labelSelector"]["matchLabels"] for each in pod(documents).get("topologySpreadConstraints", [])]
    assert all(selector.items() <= labels.items() for selector in selectors)
    for monitor in (document for document in documents if document["kind"] == "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "managed-agents"
        namespaces = monitor["spec"].get("namespaceSelector", {}).get("matchNames", [monitor["metadata"]["namespace"]])
        assert namespaces == [service["metadata"]["namespace"]]


@needs_helm
def test_the_pod_has_no_rights() -> None:
    documents = of_set("defaults")
    assert kinds(documents) == ["ConfigMap", "Deployment", "Service", "ServiceAccount"]
    assert pod(documents)["automountServiceAccountToken"] is False
    assert the(documents, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(documents)["securityContext"]["runAsNonRoot"] is True
    assert container(documents)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }


@needs_helm
def test_a_changed_configuration_replaces_the_pods() -> None:
    def checksum(*arguments: str) -> str:
        template = the(rendered(*arguments), "Deployment")["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum() == checksum("--set=replicas=2")
    assert checksum() != checksum("--set=config.api.requests_per_minute=60")


@needs_helm
def test_the_demo_needs_no_configuration_and_no_secret() -> None:
    documents = of_set("demo")
    assert kinds(documents) == ["Deployment", "Service", "ServiceAccount"]
    assert container(documents)["args"][0] == "--demo"
    assert "volumes" not in pod(documents)


@needs_helm
def test_what_is_made_elsewhere_is_not_made_here() -> None:
    documents = of_set("existing")
    assert kinds(documents) == ["Deployment", "Service"]
    assert the(documents, "Deployment")["metadata"]["name"] == "queues"
    assert "annotations" not in the(documents, "Deployment")["spec"]["template"]["metadata"]
    volumes = {volume["name"]: volume for volume in pod(documents)["volumes"]}
    assert volumes["config"]["configMap"]["name"] == "our-config"
    assert volumes["secrets"]["secret"]["secretName"] == "our-credentials"
    assert [each["secret"]["name"] for each in volumes["web"]["projected"]["sources"]] == ["our-web-config"]
    assert pod(documents)["serviceAccountName"] == "our-account"
    assert container(documents)["image"].startswith("registry.example.com/mirror/managed-agents-exporter@sha256:")


@needs_helm
def test_probes_ask_over_tls_and_only_connect_where_a_password_is_needed() -> None:
    def handlers(documents: Documents) -> list[dict[str, Any]]:
        probes = (container(documents)[name] for name in ("startupProbe", "livenessProbe", "readinessProbe"))
        return [
            probe.get("httpGet") or {"tcpSocket": probe.get("tcpSocket"), "exec": probe.get("exec")} for probe in probes
        ]

    paths = ["/-/ready", "/-/healthy", "/-/ready"]
    connect = {"tcpSocket": {"port": "http"}, "exec": None}
    assert handlers(of_set("defaults")) == [{"path": path, "port": "http"} for path in paths]
    assert handlers(of_set("existing")) == [{"path": path, "port": "http", "scheme": "HTTPS"} for path in paths]
    assert handlers(of_set("tls")) == [connect] * 3
    clients = "--set=web.config.tls_server_config.client_auth_type=RequireAndVerifyClientCert"
    assert handlers(rendered(clients)) == [connect] * 3
    liveness = handlers(of_set("large"))[1]
    assert liveness["exec"]["command"][0] == "/opt/managed-agents-exporter/bin/python"
    assert liveness["tcpSocket"] is None


@needs_helm
def test_the_web_config_is_one_that_the_program_takes_and_everything_scrapes_over_tls(tmp_path: Path) -> None:
    documents = of_set("tls")
    text = the(documents, "Secret")["stringData"]["web-config.yml"]
    assert yaml.safe_load(text)["tls_server_config"] == {"cert_file": "tls.crt", "key_file": "tls.key"}
    (web,) = (volume["projected"]["sources"] for volume in pod(documents)["volumes"] if volume["name"] == "web")
    assert [each["secret"]["name"] for each in web] == ["rel-managed-agents-exporter-web", "exporter-tls"]
    without_tls = {"basic_auth_users": yaml.safe_load(text)["basic_auth_users"]}
    (tmp_path / "web-config.yml").write_text(yaml.safe_dump(without_tls))
    assert web_config.load(tmp_path / "web-config.yml").hash_by_user.keys() == {"prometheus"}
    (endpoint,) = the(documents, "ServiceMonitor")["spec"]["endpoints"]
    scrape, probe = the(documents, "ScrapeConfig")["spec"], the(documents, "Probe")["spec"]
    assert (endpoint["scheme"], scrape["scheme"], probe["prober"]["scheme"]) == ("https", "HTTPS", "https")
    (discovery,) = scrape["httpSDConfigs"]
    assert discovery["url"].startswith("https://")
    for each in (endpoint, scrape, discovery, probe):
        assert each["tlsConfig"]["serverName"] == "exporter.example.com"
        assert each["basicAuth"]["username"] == {"name": "exporter-login", "key": "username"}


@needs_helm
def test_environments_are_read_by_one_of_the_scrapes_alone() -> None:
    own = yaml.safe_load((generate.FILES / "exporter-metrics.yml").read_text())
    for name in ("sharded", "tls"):
        (endpoint,) = the(of_set(name), "ServiceMonitor")["spec"]["endpoints"]
        assert endpoint["params"] == {"name[]": own}
    (endpoint,) = the(of_set("operator"), "ServiceMonitor")["spec"]["endpoints"]
    assert "params" not in endpoint


@needs_helm
def test_the_shards_hash_the_environment_and_the_address_is_the_services() -> None:
    spec = the(of_set("sharded"), "ScrapeConfig")["spec"]
    address = "rel-managed-agents-exporter.agents.svc:9831"
    assert spec["httpSDConfigs"] == [{"url": f"http://{address}/sd", "refreshInterval": "1m"}]
    assert spec["relabelings"][2:] == [
        {"sourceLabels": ["__param_target"], "targetLabel": "__tmp_hash"},
        {"targetLabel": "__address__", "replacement": address},
        {"sourceLabels": ["__meta_managed_agents_worker_mode"], "targetLabel": "worker_mode"},
    ]
    assert the(of_set("tls"), "Probe")["spec"]["prober"]["url"] == address


def alerts(documents: Documents) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for group in the(documents, "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            found.setdefault(rule.get("alert", ""), []).append(rule)
    return found


@needs_helm
def test_the_shipped_rules_are_the_rules() -> None:
    groups = the(rendered("--set=prometheusRule.enabled=true"), "PrometheusRule")["spec"]["groups"]
    assert groups == prometheus_rule.rule_groups(prometheus_rule.RULES)


@needs_helm
def test_alerts_can_be_left_out_labelled_and_given_other_thresholds() -> None:
    shipped = alerts(rendered("--set=prometheusRule.enabled=true"))
    changed = alerts(of_set("operator"))
    assert shipped.keys() - changed.keys() == {"ManagedAgentsWorkersUnknown"}
    assert changed.keys() - shipped.keys() == {"OurOwn"}
    ours = [rule for name, rules in changed.items() if name.startswith("Managed") for rule in rules]
    assert all(rule["labels"]["team"] == "agents" for rule in ours)
    assert changed["ManagedAgentsNobodyPolling"][0]["for"] == "0s"
    before = shipped["ManagedAgentsBacklogAgeing"][0]["expr"]
    assert changed["ManagedAgentsBacklogAgeing"][0]["expr"] == before.replace("300", "600") != before


@needs_helm
def test_a_file_of_rules_can_be_left_out() -> None:
    groups = the(of_set("sharded"), "PrometheusRule")["spec"]["groups"]
    left_out = yaml.safe_load((prometheus_rule.RULES / "alerts.yml").read_text())["groups"]
    every = prometheus_rule.rule_groups(prometheus_rule.RULES)
    assert groups == [group for group in every if group not in left_out]


@needs_helm
@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--set=prometheusRule.thresholds.waitWarning=600", "thresholds.waitWarning: no such threshold; there are"),
        ("--set=prometheusRule.withoutFiles={absence}", "no file absence; there are"),
        ("--set=prometheusRule.withoutAlerts={NobodyPolling}", "no alert is called NobodyPolling"),
        ("--set=probe.enabled=true,probe.targets=null", "probe.targets: name the environments"),
        ("--set=serviceMonitor.enable=true", "enable"),
        ("--set=ingress.enabled=true", "ingress: name its hosts, or set web.externalUrl"),
    ],
)
def test_what_would_be_ignored_is_refused_by_name(argument: str, problem: str) -> None:
    assert problem in refused("--set=prometheusRule.enabled=true", argument)


@needs_helm
def test_dashboards_are_configmaps_that_grafanas_sidecar_finds() -> None:
    documents = [each for each in of_set("operator") if "grafana_dashboard" in each["metadata"]["labels"]]
    shipped = {path.name: json.loads(path.read_text()) for path in (generate.ROOT / "dashboards").glob("*.json")}
    found = {}
    for document in documents:
        assert document["metadata"]["namespace"] == "grafana"
        assert document["metadata"]["annotations"] == {"grafana_folder": "Managed agents"}
        ((name, text),) = document["data"].items()
        found[name.removeprefix("managed-agents-")] = json.loads(text)
    assert found == shipped


@needs_helm
def test_behind_an_ingress_links_scrapes_and_probes_have_its_addresses() -> None:
    documents = of_set("proxied")
    ((alert, *_), board) = alerts(documents)["ManagedAgentsStuckStarting"], json.dumps(documents)
    assert {name: url for name, url in alert["annotations"].items() if name.endswith("_url")} == {
        "runbook_url": "https://wiki.example.com/runbooks/ManagedAgentsStuckStarting.md",
        "dashboard_url": "https://grafana.example.com/d/managed-agents-environment?var-environment_name={{ $labels.environment_name | urlquery }}",
        "items_url": "https://example.com/agents/items?target={{ $labels.environment_id | urlquery }}&state=starting",
    }
    assert "https://example.com/agents/items?target=${__value.text:percentencode}" in board
    assert "localhost" not in board
    assert "<<" not in board
    arguments = flags.parse(container(documents)["args"])
    assert isinstance(arguments, flags.Options)
    assert (arguments.web.external_url, arguments.web.route_prefix) == ("https://example.com/agents", "/agents")
    probes = [container(documents)[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
    assert probes == ["/agents/-/ready", "/agents/-/healthy", "/agents/-/ready"]
    assert the(documents, "ServiceMonitor")["spec"]["endpoints"][0]["path"] == "/agents/metrics"
    scrape = the(documents, "ScrapeConfig")["spec"]
    assert (scrape["metricsPath"], scrape["httpSDConfigs"][0]["url"].rpartition(":")[2]) == (
        "/agents/probe",
        "9831/agents/sd",
    )
    assert the(documents, "Probe")["spec"]["prober"]["path"] == "/agents/probe"


def routes(documents: Documents) -> list[tuple[str, str, str]]:
    """Return host, path and its type of each rule; every one leads to the service's port."""
    service = the(documents, "Service")
    found = []
    for rule in the(documents, "Ingress")["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            assert path["backend"] == {"service": {"name": service["metadata"]["name"], "port": {"name": "http"}}}
            found.append((rule["host"], path["path"], path["pathType"]))
    return found


@needs_helm
def test_the_ingress_leads_where_the_links_do_or_where_it_is_told() -> None:
    assert routes(of_set("proxied")) == [("example.com", "/agents", "Prefix")]
    root = "--set=demo=true,ingress.enabled=true,web.externalUrl=https://queues.example.com:8443"
    assert routes(rendered(root)) == [("queues.example.com", "/", "Prefix")]
    assert routes(of_set("subchart")) == [("queues.example.com", "/", "Prefix"), ("example.com", "/queues", "Exact")]
    ingress = the(of_set("subchart"), "Ingress")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "queues-tls", "hosts": ["queues.example.com"]}]
    assert ingress["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}
    assert ingress["metadata"]["labels"]["example.com/tier"] == "edge"


@needs_helm
def test_as_a_part_of_another_chart_it_takes_that_ones_registry_and_any_namespace() -> None:
    documents = of_set("subchart")
    assert container(documents)["image"] == f"mirror.example.com/{IMAGE}"
    assert pod(documents)["imagePullSecrets"] == [{"name": "mirror-login"}, {"name": "another-login"}]
    elsewhere = {document["kind"] for document in documents if document["metadata"]["namespace"] != "queues"}
    assert elsewhere == {"ServiceMonitor"}
    (discovery,) = the(documents, "ScrapeConfig")["spec"]["httpSDConfigs"]
    assert discovery["url"] == "http://rel-managed-agents-exporter.queues.svc:9831/sd"


@needs_helm
def test_a_prefix_that_the_ingress_removes_is_in_links_alone() -> None:
    documents = rendered("--set=demo=true,web.externalUrl=https://example.com/agents/,web.routePrefix=/")
    assert container(documents)["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    arguments = flags.parse(container(documents)["args"])
    assert isinstance(arguments, flags.Options)
    assert (arguments.web.external_url, arguments.web.route_prefix) == ("https://example.com/agents", "")


@needs_helm
@pytest.mark.skipif(shutil.which("kube-score") is None, reason=".ci/kubernetes-tools builds kube-score")
def test_kube_score_finds_nothing_critical() -> None:
    """Except for what is meant: no limit of CPU or of what the log takes, an image that is pulled once."""
    documents = rendered("--set=networkPolicy.enabled=true,replicas=2,podDisruptionBudget.maxUnavailable=1")
    meant = "container-image-pull-policy,container-ephemeral-storage-request-and-limit"
    command = [
        "kube-score",
        "score",
        "--ignore-container-cpu-limit",
        f"--ignore-test={meant}",
        "--output-format=ci",
        "-",
    ]
    ended = subprocess.run(
        command, input=yaml.safe_dump_all(documents), capture_output=True, text=True, check=False, timeout=AMPLE_S
    )
    assert re.findall(r"^\[CRITICAL\].*$", ended.stdout, re.MULTILINE) == []
    assert "[OK]" in ended.stdout
