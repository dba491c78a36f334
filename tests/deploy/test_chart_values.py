"""The values of the Helm chart: its schema refuses what cannot work, and its README lists all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmValuesError
from jsonschema import Draft7Validator, ValidationError

CHART = Path(__file__).parent.parent.parent / "deploy/helm/corepy"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
MONITORING = "corepy/templates/monitoring.yaml"
REFUSED = [
    {"form": "both"},
    {"unknown": 1},
    {"image": {"digest": "sha256:1"}},
    {"image": {"tags": "1"}},
    {"addresses": []},
    {"addresses": ["node"]},
    {"clusterDNS": "kube-dns"},
    {"form": "ha", "corefile": ".:53 {\n}\n"},
    {"networkPolicy": True},
    {"serviceAddress": "10.96.0.53"},
    {"form": "cilium", "serviceAddress": "10.96.0.53"},
    {"form": "unprivileged", "takeoverAddresses": ["10.96.0.10"]},
    {"monitor": {"kind": "Scrape"}},
    {"tolerations": [{"operator": "Any"}]},
    # each would add a line to the Corefile or to the pod, or stop every start
    {"resolvers": "/etc/resolv.conf\nimport /etc/shadow"},
    {"resolvers": "/etc/resolv.conf\u2028import"},
    {"resolvers": "/etc/resolv.conf #"},
    {"resolvers": '"'},
    {"priorityClassName": "x\nhostPID: true"},
    {"priorityClassName": "{$HOME}"},
    {"addresses": ["169.254.20.256"]},
    {"addresses": ["169.254.20.01"]},
    {"addresses": ["::"]},
    {"clusterDomain": "cluster..local"},
    {"prometheusRule": {"runbookURL": "&anchor"}},
    {"mode": "both"},
    {"mode": "cluster", "form": "unprivileged"},
    {"mode": "cluster", "takeoverAddresses": ["10.96.0.10"]},
    {"mode": "cluster", "networkPolicy": True},
    {"mode": "cluster", "cluster": {"replicas": 0}},
    {"mode": "cluster", "cluster": {"service": "Kube.DNS"}},
    {"mode": "ha", "form": "cilium"},
    {"mode": "ha", "corefile": ".:53 {\n}\n"},
]


@pytest.fixture(scope="module")
def chart():
    return Chart.load(CHART)


def merged(values):
    """The defaults with `values` over them, one level deep as the values here are."""
    return {
        name: {**VALUES.get(name, {}), **it} if isinstance(it, dict) else it
        for name, it in (VALUES | values).items()
    }


@pytest.mark.parametrize("values", REFUSED, ids=json.dumps)
def test_values_that_cannot_work_are_refused(values, chart):
    with pytest.raises(ValidationError):
        Draft7Validator(SCHEMA).validate(merged(values))
    with pytest.raises(HelmValuesError):
        chart.render(values=values, name="corepy", namespace="kube-system")


def objects(chart, name, **values):
    rendered = chart.render(values=values, name=name, namespace="007")
    found = (it for text in rendered.values() for it in yaml.safe_load_all(text))
    return [it for it in found if isinstance(it, dict) and "kind" in it]


def texts(value, name):
    """All values of the members `name` in `value`."""
    if isinstance(value, dict):
        for key, it in value.items():
            yield from [it] if key == name else texts(it, name)
    elif isinstance(value, list):
        for it in value:
            yield from texts(it, name)


@pytest.mark.parametrize("name", ["123", "true", "1e3", "null", "2026-11-29"])
@pytest.mark.parametrize("form", ["ha", "unprivileged", "cilium"])
def test_names_that_yaml_would_read_as_other_types(chart, name, form):
    """Kubernetes accepts them as names of releases and namespaces."""
    values = {"monitor": {"kind": "ServiceMonitor"}, "dashboard": {"enabled": True}}
    found = objects(chart, name, form=form, priorityClassName=name, **values)
    metadata = [it["metadata"] for it in found]
    assert {it["namespace"] for it in metadata} == {"007"}
    assert {it["name"].removesuffix("-metrics") for it in metadata} <= {
        name, f"{name}-primary", f"{name}-secondary", f"{name}-dashboard", "kube-dns-upstream",
    }  # fmt: skip
    for member in ("k8s-app", "corepy-metrics", "serviceAccountName", "priorityClassName"):
        assert all(type(it) is str for it in texts(found, member))


@pytest.mark.parametrize("text", ["  .:53 {\n}\n", "\0\r\u2028 é\ttab: {{ .Values }} #\n", "|"])
def test_a_corefile_is_passed_on_unchanged(chart, text):
    (config,) = (it for it in objects(chart, "corepy", corefile=text) if it["kind"] == "ConfigMap")
    assert config["data"] == {"Corefile": text}


@pytest.mark.parametrize("values", [{"takeoverAddresses": ["10.96.0.10"]}, {"form": "cilium"}])
def test_the_service_that_node_cache_uses_outlives_the_release(chart, values):
    metadata = [it["metadata"] for it in objects(chart, "corepy", **values)]
    policies = [(it["name"], it["annotations"]) for it in metadata if "annotations" in it]
    assert policies == [("kube-dns-upstream", {"helm.sh/resource-policy": "keep"})]


def test_annotations_replace_those_of_the_chart(chart):
    values = {"podAnnotations": {"prometheus.io/scrape": "false", "a": "b"}}
    rendered = chart.render(values=values, name="corepy", namespace="x")
    assert rendered["corepy/templates/daemonset.yaml"].count("prometheus.io/scrape") == 1
    (annotations,) = texts(objects(chart, "corepy", **values), "annotations")
    assert annotations == {
        "prometheus.io/scrape": "false", "prometheus.io/port": "9253", "a": "b",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["monitor", "prometheusRule", "dashboard"])
@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_labels_replace_those_of_the_chart(chart, name, kind):
    """Each key once: tools that read the manifest again, such as kustomize, refuse a second one."""
    values: dict[str, dict[str, Any]]
    values = {"monitor": {"kind": kind}, "prometheusRule": {"enabled": True}}
    values["dashboard"] = {"enabled": True}
    values[name]["labels"] = {"k8s-app": "theirs"}
    text = chart.render(values=values, name="corepy", namespace="x")[MONITORING]
    blocks = re.findall(r"^  labels:\n((?:    .*\n)+)", text, re.MULTILINE)
    for block in blocks:
        keys = [line.partition(":")[0] for line in block.splitlines()]
        assert len(keys) == len({*keys}), block
    labels = [it["metadata"]["labels"] for it in yaml.safe_load_all(text) if it]
    assert [it["k8s-app"] for it in labels].count("theirs") == 1
    assert len(labels) == len(blocks)


def test_the_schema_knows_every_value():
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator(SCHEMA).validate(VALUES)
    assert SCHEMA["properties"].keys() - {"global"} == VALUES.keys()


GROUPS = ("image", "cluster", "monitor", "prometheusRule", "dashboard")


def flat(values, prefix=""):
    """The values as README.md lists them: the members of a group one by one."""
    for name, it in values.items():
        if not prefix and name in GROUPS:
            yield from flat(it, f"{name}.")
        else:
            yield f"{prefix}{name}", it


def test_the_readme_lists_every_value_with_its_default():
    readme = (CHART / "README.md").read_text().partition("## Values")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", readme, re.MULTILINE)
    assert [(name, yaml.safe_load(default)) for name, default in rows] == list(flat(VALUES))


def test_lint():
    report = lint(CHART, strict=True)
    assert report["errors"] == []
    assert [it["error"] for it in report["messages"]] == ["icon is recommended"]
