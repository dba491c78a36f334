"""The whole server on a real dummy interface with real legacy tables, in a kernel of its own.

Debian's user-mode-linux runs as an ordinary program; its root is this machine's file system. It boots
in a few seconds. See uml_init.sh and uml_guest.py for what happens inside.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TIMEOUT = 360.0  # seconds
SEED = """\
.:5300 {
    bind 168.255.10.20
    nodecache
    forward . 1.1.1.1:53 {
        force_tcp
    }
}

.:5301 {
    bind 168.255.10.25
    nodecache
    forward . 1.1.1.1:53 {
        force_tcp
    }
}
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the guest's script found. The workers of one run share one boot."""
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run_id is None:
        return boot(tmp_path_factory.mktemp("uml"))
    folder = tmp_path_factory.getbasetemp().parent / f"uml-{run_id}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return read(folder) if (folder / "result.json").exists() else boot(folder)


def boot(folder: Path) -> dict[str, Any]:
    """Boot and run the guest's script."""
    (folder / "Corefile").write_text(SEED)
    for name in ("uml_guest.py", "uml_ipvs.py", "uml_memory.py"):
        shutil.copy(HERE / name, folder / name)
    command = [
        *("linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "rw", "quiet"),
        *("con=null", "con0=null,fd:1", "ssl=null", f"init={HERE / 'uml_init.sh'}"),
        *(
            f"WORK_DIR={folder}",
            f"PYTHON={sys.executable}",
            f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}",
        ),
    ]
    console = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
    )
    if not (folder / "result.json").exists():
        logs = [f"{log.name}:\n{log.read_text()}" for log in folder.glob("*.log")]
        raise AssertionError("\n".join([console.stdout.decode(errors="replace"), *logs]))
    return read(folder)


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_the_seed_corefile_answers_on_both_addresses(result: dict[str, Any]) -> None:
    assert result["answers"] == [True] * 7


def test_the_interface_is_a_dummy_of_ours_with_both_addresses(result: dict[str, Any]) -> None:
    assert "dummy" in result["serving"]["link"]
    assert "alias corepy nodecache" in result["serving"]["link"]
    assert "168.255.10.20/32" in result["serving"]["addresses"]
    assert "168.255.10.25/32" in result["serving"]["addresses"]


def test_the_rules_are_in_the_legacy_tables(result: dict[str, Any]) -> None:
    rules = result["serving"]["rules"]
    assert len(rules) == 20
    assert sum("168.255.10.20/32" in rule and "port 5300" in rule for rule in rules) == 10
    assert sum("168.255.10.25/32" in rule and "port 5301" in rule for rule in rules) == 10


def test_a_deleted_interface_comes_back(result: dict[str, Any]) -> None:
    print(
        f"whole after {result['repair_seconds']} s, in a kernel several times slower than the host"
    )
    assert result["repaired"]["rules"] == result["serving"]["rules"]
    assert "alias corepy nodecache" in result["repaired"]["link"]


def test_nothing_is_left_after_sigterm(result: dict[str, Any]) -> None:
    assert result["exit"] == 0
    assert result["stopped"] == {"link": "", "addresses": "", "rules": []}


def test_skipteardown_leaves_everything(result: dict[str, Any]) -> None:
    assert result["exit_kept"] == 0
    assert result["kept_same"]
    assert len(result["kept"]["rules"]) == 20
    assert "fd00::10/128" in result["kept"]["addresses"]


def test_teardown_takes_away_what_was_kept(result: dict[str, Any]) -> None:
    assert result["torn_down"] == {"link": "", "addresses": "", "rules": []}


def test_the_interface_and_rules_of_node_cache_are_taken_over(result: dict[str, Any]) -> None:
    """Its addresses go as well when the server stops: nobody would answer on them."""
    found = result["adopted"]
    before, serving, after = found["states"]
    assert len(before["rules"]) == 1
    assert "alias corepy nodecache" not in before["link"]
    assert "alias corepy nodecache, adopted" in serving["link"]
    assert "took over" not in found["log"].partition("corepy-")[2]
    assert serving["addresses"].count("/32") == before["addresses"].count("/32") == 2
    assert len(serving["rules"]) == len(set(serving["rules"])) == 10
    assert before["rules"][0] in serving["rules"]
    assert (found["answers"], found["exit"]) == (True, 0)
    assert after == {"link": "", "addresses": "", "rules": []}


def test_a_kernel_without_the_modules_is_named(result: dict[str, Any]) -> None:
    dummy, table = result["refusals"]["dummy"], result["refusals"]["table"]
    assert dummy.startswith("1: ")
    assert "this kernel has no dummy driver: load the module (modprobe dummy)" in dummy
    assert table.startswith("1: ")
    assert "the kernel needs iptable_filter (modprobe it)" in table


def test_auto_falls_back_to_legacy_where_nf_tables_lacks_the_family(result: dict[str, Any]) -> None:
    assert result["auto_answers"]
    assert len(result["auto"]["rules"]) == 10
    assert all("169.254.20.10/32" in rule for rule in result["auto"]["rules"])
    assert "iptables auto: using legacy, because nft does not work: the nft " in result["auto_log"]
    assert "using legacy iptables" in result["auto_log"]
    assert result["auto_exit"] == 0
    assert result["auto_stopped"] == {"link": "", "addresses": "", "rules": []}


def test_nft_asked_for_is_refused_where_nf_tables_lacks_the_family(result: dict[str, Any]) -> None:
    refused = result["nft_refused"]
    assert refused.startswith("1: ")
    assert "the nft tables raw and filter do not accept IPv4 rules: " in refused
    assert "set: iptables legacy, or iptables off" in refused


def test_kube_proxy_with_ipvs(result: dict[str, Any]) -> None:
    """Its interface has the address of kube-dns, so the cache serves its own address only."""
    nothing = {"link": "", "addresses": "", "rules": []}
    found = dict(result["ipvs"])
    refused = found.pop("refused")
    assert refused.startswith("1: ")
    assert "10.96.0.10 is a service address on kube-ipvs0 (kube-proxy runs in IPVS mode)" in refused
    assert found == {
        "left": nothing,
        "answers": [True] * 3,
        "through_the_service": True,
        "exit": 0,
        "stopped": nothing,
        "service": True,
    }


def test_the_supervisor_survives_when_the_limit_kills_one_process(result: dict[str, Any]) -> None:
    """cgroup version 1, or kubelet's singleProcessOOMKill."""
    assert result["kill_one"] == {
        "kills": {"oom_kill": True, "oom_group_kill": False},
        "serves_again": True,
        "supervisor": None,
        "answers": True,
        "same": True,
        "exit": 0,
    }


def test_the_next_container_adopts_the_node_when_the_limit_kills_all(
    result: dict[str, Any],
) -> None:
    """cgroup version 2 with kubelet's default, memory.oom.group."""
    nothing = {"link": "", "addresses": "", "rules": []}
    assert result["kill_group"] == {
        "exit": -9,
        "kills": {"oom_kill": True, "oom_group_kill": True},
        "left": [],
        "same_after_kill": True,
        "serves_again": True,
        "pidfile": True,
        "stale_pidfile": False,
        "answers": True,
        "same": True,
        "stopped": [0, nothing],
    }
