"""`corepy nodecache status | plan | teardown`, in namespaces, beside a server and without one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from corepy.testing import run_command
from corepy.testing.netns import bystanders, host, isolated, rules, run
from corepy_nodecache.model import MARK

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("legacy", "nft")
IP = "169.254.20.10"


def block(kind: str, ip: str, port: int = 5300) -> str:
    return f".:{port} {{\n bind {ip}\n nodecache {{\n iptables {kind}\n }}\n whoami\n}}\n"


def make_bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")


def ours(kind: str) -> int:
    return sum(MARK in line for line in rules(kind))


def command(*words: str) -> str:
    """Run it and return what it prints; raises OSError with what it says if it fails."""
    return run(sys.executable, "-m", "corepy", "nodecache", *words)


def states(*words: str) -> dict[str, str]:
    """Return the status by what it is about."""
    found = json.loads(command("status", "-json", *words))
    return {f"{it['kind']} {it['where']} {it['what']}": it["state"] for it in found}


@pytest.fixture
def corefile(tmp_path: Path) -> Path:
    return tmp_path / "Corefile"


@isolated
def test_nothing_is_there() -> None:
    assert command("status") == "This host has no interfaces, addresses or rules of corepy.\n"
    assert command("status", "-json") == "[]\n"
    assert command("teardown") == "This host had no interfaces, addresses or rules of corepy.\n"


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_plan_start_kill_teardown(kind: str, corefile: Path) -> None:
    before = bystanders(kind, "nodecache")
    corefile.write_text(block(kind, IP))
    plan = command("plan", "-conf", str(corefile))
    assert plan.count("add ") == 11
    assert f"address {IP} on nodecache" in plan
    with run_command(block(kind, IP)) as server:
        assert states()[f"rules {kind} {IP} port 5300"] == "10"
        assert command("plan", "-conf", str(corefile)) == "Nothing to change.\n"
        with pytest.raises(OSError, match="stop it first"):
            command("teardown")
        server.stop(signal.SIGKILL)
    assert ours(kind) == 10
    assert command("teardown").splitlines()[1:] == [
        f"removed 10 rules from {kind} iptables",
        f"removed {IP} from nodecache",
    ]
    assert host(kind) == before


@isolated
def test_status_with_a_corefile_says_what_it_lacks(corefile: Path) -> None:
    corefile.write_text(block("nft", IP))
    assert states("-conf", str(corefile)) == {
        "link nodecache dummy": "missing",
        f"address nodecache {IP}": "missing",
        f"rules nft {IP} port 5300": "0, 10 missing",
    }
    make_bridge()
    with run_command(block("nft", IP) + block("nft", "fd00::10")) as server:
        run("iptables-nft", "-t", "raw", "-D", "OUTPUT", "1")
        server.wait_for("repaired")
        server.stop(signal.SIGKILL)
    run("iptables-nft", "-t", "raw", "-D", "OUTPUT", "1")
    assert states("-conf", str(corefile)) == {
        f"address nodecache {IP}": "corepy's",
        "address nodecache fd00::10": "corepy's, not wanted",
        f"rules nft {IP} port 5300": "9, 1 missing",
        "rules nft fd00::10 port 5300": "10, 10 not wanted",
    }


@isolated
def test_the_port_of_zones_without_one(corefile: Path) -> None:
    corefile.write_text(". {\n nodecache {\n iptables nft\n }\n whoami\n}\n")
    found = states("-conf", str(corefile), "-dns.port", "5399")
    assert found["rules nft 192.168.10.100 port 5399"] == "0, 10 missing"
    said = subprocess.run(
        [sys.executable, "-m", "corepy", "nodecache", "plan", "-conf", str(corefile)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no bind in this server block: using 192.168.10.100" in said.stderr
    assert "--dport 53 " in said.stdout


@pytest.mark.parametrize("name", ["plan", "status"])
@isolated
def test_a_corefile_that_cannot_be_used(name: str, corefile: Path) -> None:
    with pytest.raises(OSError, match="cannot read the Corefile /nowhere"):
        command(name, "-conf", "/nowhere")
    corefile.write_text(". {\n nodecache skiptaerdown\n}\n")
    with pytest.raises(OSError, match="did you mean 'skipteardown'"):
        command(name, "-conf", str(corefile))
