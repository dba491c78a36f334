"""Generates the reference of metrics from the registry in which they are declared."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from corepy.plugin import metrics

ROOT = Path(__file__).parent.parent
DECLARES = re.compile(r"\bmetrics\.(?:counter|gauge|histogram)\(\s*\"(\w+)\"")
CORE = "the server"
HEAD = """\
# Metrics

Every metric that corepy and its own plugins count, as *prometheus* exports it. This page is made
from the registry that they are declared in. Metrics that start with `coredns_` have CoreDNS's
names, types and labels where CoreDNS has the metric.

Those of a plugin are there once a Corefile uses it. A histogram `x` is exported as `x_bucket`,
`x_sum` and `x_count`, its buckets with the label `le`.
"""
PROCESS = """\
## The process

Metrics of the process from prometheus_client, and of the interpreter. Those marked *runtime*
come with `runtime_metrics` in *prometheus*.
"""


class Source(NamedTuple):
    """A file that declares metrics."""

    path: Path
    owner: str
    names: list[str]

    @property
    def module(self) -> str:
        """The module name with which the file is imported."""
        folders = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(folders if folders[0] == "corepy" else folders[2:])


def sources() -> list[Source]:
    """Return the files that declare metrics, with the plugin to which they belong."""
    found = []
    for path in sorted((*ROOT.glob("corepy/**/*.py"), *ROOT.glob("plugins/*/corepy_*/**/*.py"))):
        names = DECLARES.findall(path.read_text())
        if names:
            folders = path.relative_to(ROOT).parts
            found.append(Source(path, CORE if folders[0] == "corepy" else folders[1], names))
    return found


def by_owner() -> dict[str, list[metrics.Metric[Any]]]:
    """Import the modules that declare metrics; return the metrics by plugin, the server first."""
    owners = {}
    for source in sources():
        import_module(source.module)
        owners.update(dict.fromkeys(source.names, source.owner))
    groups: dict[str, list[metrics.Metric[Any]]] = defaultdict(list)
    for metric in metrics.registered():
        groups[owners[metric.name]].append(metric)
    return dict(sorted(groups.items(), key=lambda group: (group[0] != CORE, group[0])))


def render() -> str:
    """Return the page."""
    parts = [HEAD]
    for owner, group in by_owner().items():
        title = "The server" if owner == CORE else f"[{owner}](plugins/{owner}.md)"
        parts.append(f"## {title}\n\n{_table(sorted(group, key=lambda metric: metric.name))}")
    return "\n".join([*parts, PROCESS, _process_table()])


def _table(group: list[metrics.Metric[Any]]) -> str:
    rows = [
        (
            metric.name,
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.label_names),
            metric.help,
        )
        for metric in group
    ]
    return _rows(rows)


def _process_table() -> str:
    import asyncio

    from corepy.http.metrics.exposition import parts
    from corepy_prometheus import runtime

    declared = {metric.name.removesuffix("_total") for metric in metrics.registered()}

    async def collect() -> tuple[set[str], list[Any]]:
        plain = {family.name for family in parts()}
        runtime.enable()
        return plain, list(parts())

    plain, families = asyncio.run(collect())
    rows = []
    for family in sorted(families, key=lambda family: family.name):
        if family.name in declared:
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        about = (
            family.documentation if family.name in plain else f"*runtime*: {family.documentation}"
        )
        rows.append((name, family.type, ", ".join(f"`{label}`" for label in labels), about))
    return _rows(rows)


def _rows(rows: list[tuple[str, str, str, str]]) -> str:
    lines = ["| name | type | labels | description |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {kind} | {labels} | {about} |" for name, kind, labels, about in rows]
    return "\n".join(lines) + "\n"
