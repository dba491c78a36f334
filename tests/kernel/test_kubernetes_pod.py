"""The pod of deploy/kubernetes/node-local.yaml, as it would run: its command line, its Corefile, its
capabilities and nothing beside them, a root filesystem that cannot be written to; and its update.

The interface is a bridge made beforehand, since this kernel may lack the dummy driver.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
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


COREFILE = of_kind("ConfigMap")["data"]["Corefile"]
UNPRIVILEGED = ROOT / "deploy/kustomize/overlays/unprivileged/corefile.yaml"


class Pod:
    """One pod of the DaemonSet."""

    def __init__(
        self,
        folder: Path,
        upstream: str,
        ready: str,
        corefile: str = COREFILE,
        *,
        bare: bool = False,
    ) -> None:
        """`ready` is the address that no other pod of the node has; `bare`: no capabilities."""
        self.run = folder / "run"
        (self.run / "corepy").mkdir(parents=True)
        (self.run / "xtables.lock").touch()
        conf = folder / "Corefile"
        conf.write_text(corefile)
        (self._container,) = of_kind("DaemonSet")["spec"]["template"]["spec"]["containers"]
        self._bare = bare
        self._env = {"CLUSTER_DNS": upstream, "READY_ADDRESS": ready}
        words = [word.replace("$(CLUSTER_DNS)", upstream) for word in self._container["args"]]
        self._args = [word.replace("/etc/coredns/Corefile", str(conf)) for word in words]

    @contextmanager
    def started(self) -> Iterator[Command]:
        """Run it."""
        added = () if self._bare else self._container["securityContext"]["capabilities"]["add"]
        bounds = ",".join(["-all", *(f"+{name.lower()}" for name in added)])
        prefix = ["unshare", "--mount", "sh", "-c", CONTAINER, "sh", str(self.run)]
        prefix += ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--"]
        with run_command(None, *self._args, prefix=prefix, env=self._env) as command:
            wait_until((self.run / "corepy/corepy.pid").exists, PATIENCE)
            self.serves_since(15)
            wait_until(self.is_ready, PATIENCE)
            yield command

    def serves_since(self, seconds: float) -> None:
        """Set the age of the pid file, from which the startup probe computes this time."""
        begin = time.time() - seconds
        os.utime(self.run / "corepy/corepy.pid", (begin, begin))

    def has_started(self) -> bool:
        """Return whether the startup probe succeeds."""
        probe = self._container["startupProbe"]["exec"]["command"]
        words = [word.replace("/run/", f"{self.run}/") for word in probe]
        return not subprocess.run(words, capture_output=True, check=False).returncode

    def is_ready(self) -> bool:
        """Return whether the startup probe, and after it the readiness probe, succeeds."""
        return self.has_started() and self.answers_ready()

    def answers_ready(self) -> bool:
        """Return whether the readiness probe succeeds; a pod at the same address may answer it."""
        probe = self._container["readinessProbe"]["httpGet"]
        url = f"http://{self._env['READY_ADDRESS']}:{probe['port']}{probe['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return (response.status, response.read()) == (200, b"OK")
        except OSError:
            return False

    def worker(self) -> int:
        return int((self.run / "corepy/corepy.pid").read_text())


def ours():
    return [rule for kind in ("legacy", "nft") for rule in rules(kind) if MARK in rule]


def assert_serves(address=NODE):
    for tcp in (False, True):
        reply = ask(address, NAME.split()[0], tcp=tcp)
        assert [str(rr.rdata) for rr in reply.rr] == ["100.64.0.1"]


@pytest.mark.parametrize("ready", ["127.53.0.2", "127.53.0.1"], ids=["another", "the same"])
@isolated
def test_a_pod_is_replaced_by_the_next(tmp_path: Path, ready: str) -> None:
    """Also if both have the same address for /ready, as with manifests that are only applied."""
    run("ip", "link", "add", "nodecache", "type", "bridge")
    with ExitStack() as stack:
        cluster = stack.enter_context(Upstream({NAME: [f"{NAME[:-2]} 60 IN A 100.64.0.1"]}))
        old = Pod(tmp_path / "old", cluster.to, "127.53.0.1")
        new = Pod(tmp_path / "new", cluster.to, ready)
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


@isolated
def test_the_startup_probe_waits_for_a_worker_that_stays(tmp_path: Path) -> None:
    """Not for one that has just begun or has ended: a version that fails repeatedly never passes."""
    run("ip", "link", "add", "nodecache", "type", "bridge")
    with Upstream({NAME: [f"{NAME[:-2]} 60 IN A 100.64.0.1"]}) as cluster:
        pod = Pod(tmp_path, cluster.to, "127.53.0.1")
        assert not pod.has_started()
        with pod.started():
            assert pod.has_started()
            pod.serves_since(-60)  # in the future, however slow this machine is
            assert not pod.has_started()
            file = pod.run / "corepy/corepy.pid"
            file.write_text(Path("/proc/sys/kernel/pid_max").read_text())  # no process has it
            pod.serves_since(15)
            assert not pod.has_started()


@isolated
def test_a_pod_without_privileges(tmp_path: Path) -> None:
    """The Corefile of the overlay `unprivileged`, run without any capability."""
    corefile = yaml.safe_load(UNPRIVILEGED.read_text())["data"]["Corefile"]
    with Upstream({NAME: [f"{NAME[:-2]} 60 IN A 100.64.0.1"]}) as cluster:
        pod = Pod(tmp_path, cluster.to, "127.0.0.1", corefile, bare=True)
        with pod.started() as command:
            assert_serves(("127.0.0.1", 1053))
            status = Path(f"/proc/{pod.worker()}/status").read_text()
            assert re.findall(r"Cap(?:Eff|Bnd):\s(\w+)", status) == ["0" * 16] * 2
            assert command.stop() == 0
        assert not re.search(r"\[(WARNING|ERROR|FATAL)\]|Traceback", command.output)


@isolated
def test_a_pod_takes_over_from_a_cache_with_another_interface(tmp_path: Path) -> None:
    """As in docs/kubernetes-upgrade.md: both serve the address, then the old one and its interface go."""
    for name in ("nodelocaldns", "nodecache"):
        run("ip", "link", "add", name, "type", "bridge")
    run("ip", "addr", "add", f"{NODE[0]}/32", "dev", "nodelocaldns")
    record = f"{NAME[:-2]} 60 IN A 100.64.0.1"
    with ExitStack() as stack:
        cluster = stack.enter_context(Upstream({NAME: [record]}))
        text = f".:53 {{\n    bind {NODE[0]}\n    forward . {cluster.to}\n}}\n"
        before = stack.enter_context(run_command(text))
        pod = Pod(tmp_path, cluster.to, "127.53.0.1")
        stack.enter_context(pod.started())
        for _ in range(5):
            assert_serves()
        assert before.stop() == 0
        assert addresses("nodecache") == []
        run("ip", "link", "del", "nodelocaldns")
        wait_until(lambda: addresses("nodecache") == [f"{NODE[0]}/32"])
        assert_serves()
