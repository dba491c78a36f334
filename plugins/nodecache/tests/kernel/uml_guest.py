"""What test_nodecache_uml.py has done inside the guest; leaves its findings in result.json.

Copied into the work folder by the test. Every step records what the test then compares.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uml_ipvs
import uml_memory

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES = (
    "ipv6 dummy iptable_raw iptable_filter ip6table_raw ip6table_filter xt_CT xt_comment xt_tcpudp"
)
FINIT_MODULE = 313  # x86_64
WAIT = 60.0  # seconds; the guest is several times slower than the host
UPSTREAM = ".:53 {\n    bind 1.1.1.1\n    whoami\n}\n"
BOTH_FAMILIES = (
    ".:5302 {\n    bind 169.254.20.10 fd00::10\n    nodecache skipteardown\n    whoami\n}\n"
)
ADOPTING = (
    ".:5305 {\n    bind 169.254.20.10\n    nodecache {\n        interface nodelocaldns\n"
    "        adopt_node_cache\n    }\n    whoami\n}\n"
)
AUTO = ".:5304 {\n    bind 169.254.20.10\n    nodecache\n    whoami\n}\n"


def load_modules(names: list[str], root: Path) -> None:
    """Load kernel modules and what they depend on (there may be no kmod)."""
    libc = ctypes.CDLL(None, use_errno=True)
    needs = {}
    for line in (root / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).stem.replace("-", "_")] = [*reversed(others.split()), path]
    for path in (path for name in names for path in needs[name]):
        with (root / path).open("rb") as module:
            if libc.syscall(FINIT_MODULE, module.fileno(), b"", 0):
                number = ctypes.get_errno()
                if number != errno.EEXIST:
                    raise OSError(number, os.strerror(number), path)


def out(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def state() -> dict[str, object]:
    """Return links, addresses and rules, as far as they are corepy's."""
    return state_of("nodecache", "corepy nodecache")


def state_of(device: str, comment: str) -> dict[str, object]:
    rules = out("iptables-legacy-save") + out("ip6tables-legacy-save")
    return {
        "link": out("ip", "-d", "link", "show", device),
        "addresses": out("ip", "-o", "addr", "show", device),
        "rules": [line for line in rules.splitlines() if comment in line],
    }


def adopt(folder: Path) -> dict[str, object]:
    """Leave behind the interface of node-cache and a rule, and serve in its place."""
    out("ip", "link", "add", "nodelocaldns", "type", "dummy")
    for ip in ("169.254.20.10/32", "10.96.0.10/32"):
        out("ip", "addr", "add", ip, "dev", "nodelocaldns")
    out(
        "iptables-legacy", "-I", "INPUT", "-p", "udp", "-d", "169.254.20.10", "--dport", "5305",
        "-j", "ACCEPT", "-m", "comment", "--comment", "NodeLocal DNS Cache: allow DNS traffic",
    )  # fmt: skip
    before = state_of("nodelocaldns", "NodeLocal DNS Cache: ")
    server = start(folder, "adopting", ADOPTING)
    serving = state_of("nodelocaldns", "NodeLocal DNS Cache: ")
    answers = ask("169.254.20.10", 5305)
    exit_code = stop(server)
    after = state_of("nodelocaldns", "NodeLocal DNS Cache: ")
    return {
        "states": [before, serving, after],
        "answers": answers,
        "exit": exit_code,
        "log": (folder / "adopting.log").read_text(),
    }


def ask(ip: str, port: int, *flags: str) -> bool:
    answer = out(
        "dig", f"@{ip}", "-p", str(port), "+tries=2", "+time=10", *flags, "example.org", "A"
    )
    return "status: NOERROR" in answer


def start(folder: Path, name: str, text: str) -> subprocess.Popen[bytes]:
    conf, log = folder / f"{name}.conf", folder / f"{name}.log"
    conf.write_text(text)
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "corepy", "-conf", str(conf)], stdout=file, stderr=file
        )
    wait_until(lambda: "corepy-" in log.read_text() or process.poll() is not None)
    return process


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(WAIT)


def refusal(folder: Path, name: str, options: str) -> str:
    """Return what a server prints that this kernel cannot serve, and its exit code."""
    text = f".:5303 {{\n bind 169.254.20.10\n nodecache {{\n {options}\n }}\n whoami\n}}\n"
    code = start(folder, name, text).wait(WAIT)
    return f"{code}: {(folder / f'{name}.log').read_text()}"


def main(folder: Path) -> None:
    refusals = {
        "dummy": refusal(folder, "no-dummy", "iptables off"),
        "table": refusal(folder, "no-table", "iptables legacy"),
    }
    load_modules(MODULES.split(), next(Path("/usr/lib/uml/modules").iterdir()))
    out("ip", "addr", "add", "1.1.1.1/32", "dev", "lo")
    upstream = start(folder, "upstream", UPSTREAM)
    seed = (folder / "Corefile").read_text()
    result: dict[str, Any] = {"refusals": refusals}
    server = start(folder, "seed", seed)
    result["serving"] = state()
    result["answers"] = [
        ask("168.255.10.20", 5300),
        ask("168.255.10.20", 5300, "+tcp"),
        ask("168.255.10.25", 5301),
        ask("168.255.10.25", 5301, "+tcp"),
    ]
    out("ip", "link", "del", "nodecache")
    deleted = time.monotonic()
    wait_until(lambda: out("ip", "-o", "addr", "show", "nodecache").count("168.255") == 2)
    result["repair_seconds"] = round(time.monotonic() - deleted, 2)
    result["repaired"] = state()
    result["answers"].append(ask("168.255.10.20", 5300))
    result["exit"] = stop(server)
    result["stopped"] = state()
    server = start(folder, "kept", BOTH_FAMILIES)
    result["answers"] += [ask("169.254.20.10", 5302), ask("fd00::10", 5302)]
    kept = state()
    result["exit_kept"] = stop(server)
    result["kept_same"] = state() == kept
    result["kept"] = kept
    out(sys.executable, "-m", "corepy", "nodecache", "teardown")
    result["torn_down"] = state()
    load_modules([*uml_ipvs.MODULES], next(Path("/usr/lib/uml/modules").iterdir()))
    result["ipvs"] = uml_ipvs.beside(folder, start, stop, state, ask)
    result["adopted"] = adopt(folder)
    stop(upstream)
    # nf_tables without its IPv4 family, as this kernel is built: the nft programs read, never write.
    load_modules(["nf_tables", "nft_compat"], next(Path("/usr/lib/uml/modules").iterdir()))
    result["nft_refused"] = refusal(folder, "no-family", "iptables nft")
    server = start(folder, "auto", AUTO)
    result["auto"] = state()
    result["auto_answers"] = ask("169.254.20.10", 5304)
    result["auto_exit"] = stop(server)
    result["auto_log"] = (folder / "auto.log").read_text()
    result["auto_stopped"] = state()
    uml_memory.prepare(folder)
    result["kill_one"] = uml_memory.kill_one(folder, state, ask)
    result["kill_group"] = uml_memory.kill_group(folder, state, ask)
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
