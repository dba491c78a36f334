"""The values of the Helm chart: its schema refuses what cannot work, and its README lists all."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmValuesError
from jsonschema import Draft7Validator, ValidationError

CHART = Path(__file__).parent.parent.parent / "deploy/helm/corepy"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
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


def test_the_schema_knows_every_value():
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator(SCHEMA).validate(VALUES)
    assert SCHEMA["properties"].keys() - {"global"} == VALUES.keys()


GROUPS = ("image", "monitor", "prometheusRule", "dashboard")


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
