"""Every metric that a document or the dashboard names exists, with the labels it is said to have."""

import asyncio
import json
import re
from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest

from corepy.http.metrics.exposition import parts
from corepy.plugin import metrics
from corepy_prometheus import runtime

ROOT = Path(__file__).parent.parent
MANUALS = sorted(ROOT.glob("plugins/*/README.md"))
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "corepy.json").read_text())
NAME = r"\b((?:coredns|corepy|process|python)_\w+)"
IN_MANUAL = re.compile(rf"`{NAME}(?:\{{([^}}]*)\}})?`")
DECLARES = re.compile(r"metrics\.(counter|gauge|histogram)\(")
TARGET_LABELS = {"instance", "job", "le"}
"""What Prometheus and histograms add."""


def _module_name(source):
    folders = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(folders if folders[0] == "corepy" else folders[2:])


@pytest.fixture(scope="module")
def exported():
    """All metrics by name: {name: set of labels}."""
    for source in (*ROOT.glob("corepy/**/*.py"), *ROOT.glob("plugins/*/corepy_*/**/*.py")):
        if DECLARES.search(source.read_text()):
            import_module(_module_name(source))

    async def collect():
        runtime.enable()
        return list(parts())

    families = asyncio.run(collect())
    known = {metric.name: set(metric.label_names) for metric in metrics.registered()}
    for family in families:
        for sample in family.samples:
            known.setdefault(sample.name, set(sample.labels) - {"le"})
    return known


@pytest.mark.parametrize("path", MANUALS, ids=lambda path: path.parent.name)
def test_metrics_in_manuals(path, exported):
    for name, labels in IN_MANUAL.findall(path.read_text()):
        assert name in exported, name
        if labels:
            said = {label.partition("=")[0].strip() for label in labels.split(",")}
            assert said == exported[name], name


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


EXPRESSIONS = [
    pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']} {target['refId']}")
    for panel in panels()
    for target in panel["targets"]
]


@pytest.mark.parametrize(("expression", "legend"), EXPRESSIONS)
def test_metrics_of_the_dashboard(expression, legend, exported):
    names = re.findall(NAME, expression)
    assert names
    labels = set(TARGET_LABELS)
    for name in names:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert name in exported or base in exported, name
        labels |= exported.get(name, exported.get(base, set()))
    used = set(re.findall(r"(\w+)=~?\"", expression)) | set(re.findall(r"{{(\w+)}}", legend))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        used |= {label.strip() for label in group.split(",")}
    assert used <= labels
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_is_in_order():
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    assert all(panel["title"] and panel["description"] for panel in panels())
    for one, other in combinations([panel["gridPos"] for panel in every], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)
