"""The pod of deploy/kubernetes/node-local.yaml, as it would run: its command line, its Corefile, its
capabilities and nothing beside them, a root filesystem that cannot be written to; and its update.

The interface is a bridge made beforehand, since this kernel may lack the dummy driver.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from corepy.testing import Upstream, ask, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, isolated, rules, run
from corepy_nodecache.model import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.testing import Command

ROOT = Path(__file__).parent.parent.parent
OBJECTS = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/node-local.yaml").read_text()))
NODE = ("169.254.20.10", 53)
NAME = "kubernetes.default.svc.cluster.local. A"
PATIENCE = 60.0
CONTAINER = """\
mount --bind / / && mount --bind "$1" /run && mount -o remount,bind,ro / && shift && exec "$@"
"""
"""A mount namespace's share of a container: the root read-only, /run the pod's own."""


def of_kind(kind):
    (found,) = [it for it in OBJECTS if it["kind"] == kind]
    return found


class Pod:
    """One pod of the DaemonSet."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.run = folder / "run"
        (self.run / "corepy").mkdir(parents=True)
        (self.run / "xtables.lock").touch()
        conf = folder / "Corefile"
        conf.write_text(of_kind("ConfigMap")["data"]["Corefile"])
        (self._container,) = of_kind("DaemonSet")["spec"]["template"]["spec"]["containers"]
        self._env = {"CLUSTER_DNS": upstream}
        words = [word.replace("$(CLUSTER_DNS)", upstream) for word in self._container["args"]]
        self._args = [word.replace("/etc/coredns/Corefile", str(conf)) for word in words]

    @contextmanager
    def started(self) -> Iterator[Command]:
        """Run it."""
        added = self._container["securityContext"]["capabilities"]["add"]
        bounds = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
        prefix = ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", str(self.run)]
        prefix += ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--"]
        with run_command(None, *self._args, prefix=prefix, env=self._env) as command:
            wait_until(self.is_ready, PATIENCE)
            yield command

    def is_ready(self) -> bool:
        """What the readiness probe says."""
        probe = self._container["readinessProbe"]["exec"]["command"]
        words = [word.replace("/run/", f"{self.run}/") for word in probe]
        return subprocess.run(words, check=False).returncode == 0

    def worker(self) -> int:
        return int((self.run / "corepy/corepy.pid").read_text())


def ours():
    return [rule for kind in ("legacy", "nft") for rule in rules(kind) if MARK in rule]


def assert_serves():
    for tcp in (False, True):
        reply = ask(NODE, NAME.split()[0], tcp=tcp)
        assert [str(rr.rdata) for rr in reply.rr] == ["100.64.0.1"]


@isolated
def test_a_pod_is_replaced_by_the_next(tmp_path: Path) -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")
    with ExitStack() as stack:
        cluster = stack.enter_context(Upstream({NAME: [f"{NAME[:-2]} 60 IN A 100.64.0.1"]}))
        old, new = (Pod(tmp_path / name, cluster.to) for name in ("old", "new"))
        first = stack.enter_context(old.started())
        assert_serves()
        untracked = ours()
        assert untracked
        status = Path(f"/proc/{old.worker()}/status").read_text()
        # NET_BIND_SERVICE, NET_ADMIN, NET_RAW: bits 10, 12 and 13 (capabilities(7)).
        assert re.findall(r"Cap(?:Eff|Bnd):\s(\w+)", status) == [f"{0b11010000000000:016x}"] * 2
        second = stack.enter_context(new.started())
        assert first.stop() == 0
        assert not old.is_ready()
        for _ in range(5):
            assert_serves()
        assert (addresses("nodecache"), ours()) == (["169.254.20.10/32"], untracked)
        assert second.stop() == 0
        assert (addresses("nodecache"), ours()) == ([], [])
        for pod in (first, second):
            assert not re.search(r"\[(ERROR|FATAL)\]|Traceback", pod.output), pod.output
