"""Describes the environment of a run: processor, kernel, versions; no host names."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.runner import Plan
    from benchmarks.servers import Server


def describe(servers: Sequence[Server], plan: Plan) -> str:
    """Return a Markdown list of all facts on which the figures depend."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{server.name} {server.version()}" for server in servers)
    lines = [
        f"processor: {cpu_model(Path('/proc/cpuinfo').read_text())},"
        f" {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB memory",
        f"system: {platform.system()} {platform.release().partition('-')[0]}, {platform.machine()}",
        f"servers: {versions}",
        f"corepy's source: {sources_digest()[:12]}",
        f"measured: {time.strftime('%Y-%m-%d', time.gmtime())}, {plan}",
        f"load average of the minute at the end: {os.getloadavg()[0]:.1f}",
    ]
    return "\n".join(
        fill(f"- {line}", 100, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def sources_digest() -> str:
    """Return a digest of the source of corepy and its plugins that a new server would run.

    If a checkout changes during a run, its figures would mix two versions.
    """
    packages = {entry.module for entry in entry_points(group="corepy.plugins")}
    digest = hashlib.sha256()
    for package in ["corepy", *sorted(packages)]:
        spec = find_spec(package.partition(".")[0])
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from /proc/cpuinfo, or the architecture if it has none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
