"""Measures start and memory with the manifest of the node-local cache, in both forms.

    python -m benchmarks.node_local --starts 7

The server runs with the Corefile of deploy/kubernetes/node-local.yaml in a network namespace of its
own, so it makes its interface and its rules; with the arguments of the manifest, and without a
supervisor. Needs root. `COREPY_BENCH_COMPILED` names the interpreter of the compiled form, as for
`python -m benchmarks`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from benchmarks import load
from benchmarks.ask import wait_for_answer
from benchmarks.procfs import pss_kib
from benchmarks.report import table
from benchmarks.servers import COMPILED
from benchmarks.upstream import ADDRESS, cached_name, expected_address, hot_name, upstream
from corepy.testing.netns import enter_new_netns, run

if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST: Final = Path(__file__).parent.parent / "deploy/kubernetes/node-local.yaml"
NODE: Final = "169.254.20.10"
NAMES: Final = 10_000
SETTLE: Final = 2.0
"""Seconds from the first answer to the measurement of memory: everything has started then."""

FORMS: Final = ("pure", "compiled")


class Start(NamedTuple):
    """Seconds to the first answer, and KiB of memory before and after the names are cached."""

    seconds: float
    empty: int
    filled: int


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_local", description=__doc__)
    parser.add_argument("--starts", type=int, default=7, help="starts of each form (7)")
    starts = parser.parse_args(argv).starts
    programs = [sys.executable, *filter(None, [os.environ.get(COMPILED)])]
    forms = dict(zip(FORMS, (str(Path(it).absolute()) for it in programs), strict=False))
    found: dict[tuple[str, str], list[Start]] = {}
    enter_new_netns()
    run("ip", "link", "add", "nodecache", "type", "bridge")  # the kernel may lack dummy interfaces
    with tempfile.TemporaryDirectory() as name, upstream(Path(name, "upstream"), _core()) as port:
        folder = Path(name)
        names = load.write_questions(folder / "names", map(cached_name, range(NAMES)))
        conf, supervised = _configuration(folder, port)
        ways = {"worker only": ["-conf", str(conf)], "with its supervisor": supervised}
        for _ in range(starts):
            for form, program in forms.items():
                for way, words in ways.items():
                    start = _start([program, "-P", "-m", "corepy", *words], names)
                    found.setdefault((form, way), []).append(start)
    head = ["form", "processes", "first answer after", "PSS, empty", f"PSS, {NAMES:,} names"]
    print(table(head, [[*key, *_figures(them)] for key, them in found.items()]))
    return 0


def _core() -> int:
    return max(os.sched_getaffinity(0))


def _configuration(folder: Path, port: int) -> tuple[Path, list[str]]:
    """Write the Corefile with this upstream; return it and the arguments of the container."""
    objects = list(yaml.safe_load_all(MANIFEST.read_text()))
    (text,) = (it["data"]["Corefile"] for it in objects if it["kind"] == "ConfigMap")
    (pod,) = (it["spec"]["template"]["spec"] for it in objects if it["kind"] == "DaemonSet")
    conf = folder / "Corefile"
    text = text.replace("{$CLUSTER_DNS}", f"{ADDRESS}:{port}")
    text = text.replace("/etc/resolv.conf", f"{ADDRESS}:{port}")
    conf.write_text(text.replace("{$READY_ADDRESS}", ADDRESS))
    known = {"/etc/coredns/Corefile": str(conf), "/run/corepy/": f"{folder}/"}
    words: list[str] = pod["containers"][0]["args"]
    for old, new in known.items():
        words = [word.replace(old, new) for word in words]
    return conf, [word.replace("$(CLUSTER_DNS)", ADDRESS) for word in words]


def _start(command: list[str], names: Path) -> Start:
    log = names.with_name("log")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        name = hot_name(0)
        wait_for_answer(NODE, 53, name, expected_address(name), process)
        seconds = time.monotonic() - began
        time.sleep(SETTLE)
        empty = pss_kib(process.pid)
        load.run(load.Load((NODE,), 53, names, _core(), once=True))
        return Start(seconds, empty, pss_kib(process.pid))
    finally:
        process.terminate()
        process.wait()


def _figures(starts: Sequence[Start]) -> list[str]:
    empty, filled = (median(getattr(it, name) for it in starts) for name in ("empty", "filled"))
    memory = [f"{kib * 1024 / 1e6:.1f} MB" for kib in (empty, filled)]
    return [f"{median(it.seconds for it in starts) * 1e3:.0f} ms", *memory]


if __name__ == "__main__":
    sys.exit(main())
