"""`node-cache` while kubelet changes the ConfigMaps: no query is lost, and new content is served.

The programs are real; interface and rules are left out.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
from typing import TYPE_CHECKING

import dnslib
import pytest

from corepy.testing import Load, MountedConfigMap, Upstream, run_program
from corepy.testing.command import wait_until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from corepy.testing import Command
    from corepy.testing.upstream import Behaviour

TEMPLATE = """\
. {
    errors
    cache 30
    bind __PILLAR__LOCAL__DNS__
    whoami
    RELOAD
}
here.test {
    bind __PILLAR__LOCAL__DNS__
    whoami
}
"""
ANOTHER_ZONE = """\
new.test {
    bind __PILLAR__LOCAL__DNS__
    template ANY ANY {
        rcode NXDOMAIN
    }
}
"""
NAMES = ("www.example.org.", "www.stub.test.")
NXDOMAIN = 3


class Node:
    """The mounts of node-cache's pod, and its process."""

    def __init__(self, folder: Path, template: str) -> None:
        self.template = MountedConfigMap(folder / "coredns")
        self.kube_dns = MountedConfigMap(folder / "kube-dns")
        self.output = folder / "Corefile"
        self.template.swap(**{"Corefile.base": template})
        self._numbers = itertools.count()

    def server(self) -> AbstractContextManager[Command]:
        arguments = [
            "-localip=127.0.0.1", "-dns.port=0", "-setupinterface=false", "-setupiptables=false",
            "-metrics-listen-address=", f"-conf={self.output}",
            f"-basecorefile={self.template.folder}/Corefile.base",
            f"-kubednscm={self.kube_dns.folder}",
        ]  # fmt: skip
        words = [sys.executable, "-m", "corepy", "node-cache", *arguments]
        return run_program(words, self.output)

    def stub_answer(self, server: Command) -> list[str]:
        """Ask for a name of the stub domain that no cache has."""
        reply = server.ask(f"n{next(self._numbers)}.stub.test")
        return [str(record.rdata) for record in reply.rr]


def answering(address: str) -> Behaviour:
    """Return the behaviour of a name server that answers every name with `address`."""

    def behave(query: dnslib.DNSRecord, _proto: str) -> dnslib.DNSRecord:
        reply = query.reply()
        reply.add_answer(dnslib.RR(query.q.qname, rdata=dnslib.A(address), ttl=60))
        return reply

    return behave


def stubs(**servers: str) -> str:
    return json.dumps(
        {f"{name}.test": [server] if server else [] for name, server in servers.items()}
    )


@pytest.mark.parametrize("reload", ["", "reload"])
def test_swaps_under_load(reload: str, tmp_path: Path) -> None:
    """Of the stub domains, to a broken version, of the template, and to an empty version; SIGHUP."""
    template = TEMPLATE.replace("RELOAD", reload)
    node = Node(tmp_path, template)
    with (
        Upstream(answering("192.0.2.1")) as first,
        Upstream(answering("192.0.2.2")) as second,
    ):
        node.kube_dns.swap(stubDomains=stubs(stub=first.to))
        with node.server() as server:
            assert node.stub_answer(server) == ["192.0.2.1"]
            with (
                Load(server.address, rate=100, names=NAMES) as udp,
                Load(server.address, rate=30, clients=4, tcp=True, names=NAMES) as tcp,
            ):
                node.kube_dns.swap(stubDomains=stubs(stub=second.to))
                wait_until(lambda: node.stub_answer(server) == ["192.0.2.2"])
                server.send_signal(signal.SIGHUP)
                node.kube_dns.swap(stubDomains="{", upstreamNameservers="[]")
                server.wait_for(f"{node.kube_dns.folder}/stubDomains:1: stubDomains: invalid JSON")
                node.template.swap(**{"Corefile.base": template + ANOTHER_ZONE})
                wait_until(lambda: server.ask("new.test").header.rcode == NXDOMAIN)
                assert node.stub_answer(server) == ["192.0.2.2"]
                node.kube_dns.swap()
                wait_until(lambda: node.stub_answer(server) == [])
            wait_until(lambda: "stub.test" not in node.output.read_text())
            assert server.stop() == 0
    for load in udp, tcp:
        assert load.outcome.sent > 0
        assert (load.outcome.unanswered, load.outcome.wrong) == (0, 0)


def test_a_config_map_that_is_invalid_at_the_start(tmp_path: Path) -> None:
    """The server starts without it, and takes the repaired one, of which two domains are unusable."""
    node = Node(tmp_path, TEMPLATE.replace("RELOAD", ""))
    node.kube_dns.swap(stubDomains="{}", upstreamNameservers=json.dumps(["192.0.2.1"] * 4))
    with Upstream(answering("192.0.2.1")) as upstream, node.server() as server:
        assert "upstreamNameservers: 4 name servers, but at most 3 are allowed" in server.output
        assert node.stub_answer(server) == []
        node.kube_dns.swap(stubDomains=stubs(empty="", here=upstream.to, stub=upstream.to))
        wait_until(lambda: node.stub_answer(server) == ["192.0.2.1"])
        assert server.ask("www.here.test").rr == []
        assert "stubDomains['empty.test']: the list of name servers is empty" in server.output
        assert "stubDomains['here.test']: the template has a server block" in server.output
        assert server.stop() == 0
