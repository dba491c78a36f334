"""Which addresses an interface has, by netlink and by /proc."""

import ctypes
import platform
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corepy.net import interfaces
from corepy.net.interfaces import Interfaces, read_interfaces

DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo: 6132 73 0 0 0 0 0 0 6132 73 0 0 0 0 0 0
  eth0:84132 673 0 0 0 0 0 0 6132 73 0 0 0 0 0 0
 wlan0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
nodel0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
"""
ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wlan0\t800200C0\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0
eth0\t0000060A\t010200C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.0
        /24 link UNICAST
     |-- 10.6.0.1
        /32 universe UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 169.254.20.10
        /32 host LOCAL
     |-- 192.0.2.2
        /32 host LOCAL
     |-- 192.0.2.130
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name, text in (
        ("dev", DEV),
        ("if_inet6", IF_INET6),
        ("route", ROUTE),
        ("fib_trie", FIB_TRIE),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_proc(proc: Path) -> None:
    assert interfaces._from_proc(proc) == {
        "lo": ["127.0.0.1", "::1"],
        "eth0": ["192.0.2.2", "fd00::2", "fe80::fc:ff:fe00:1"],
        "wlan0": ["192.0.2.130"],
        "nodel0": [],  # 169.254.20.10 may be there, but nothing in /proc says so
    }


def test_proc_without_files(tmp_path: Path) -> None:
    assert interfaces._from_proc(tmp_path) == {}


def test_netlink_agrees_with_proc() -> None:
    found = read_interfaces()
    assert found.exact
    by_proc = interfaces._from_proc(Path("/proc/net"))
    assert sorted(by_proc) == found.names
    for name in found.names:
        netlink, guessed = set(found.addresses[name]), set(by_proc[name])
        assert {a for a in netlink if ":" in a} == {a for a in guessed if ":" in a}
    everywhere = {address for each in found.addresses.values() for address in each}
    assert {str(address) for address in interfaces._local_ipv4(Path("/proc/net"))} <= everywhere


def test_hosts() -> None:
    found = Interfaces(
        {"eth0": ["192.0.2.1", "169.254.1.1", "fe80::1", "ff02::5", "ff05::5", "fd00::1"], "a": []},
        exact=True,
    )
    assert found.hosts("eth0") == [
        "192.0.2.1",
        "169.254.1.1",
        "fe80::1%eth0",
        "ff02::5%eth0",
        "ff05::5",
        "fd00::1",
    ]
    assert found.hosts("a") == []
    assert found.hosts("b") is None


SECCOMP = """
    import ctypes, struct, sys
    filter_size, filter_bytes = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
    code = ctypes.create_string_buffer(filter_bytes)
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", filter_size, ctypes.addressof(code))
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    from corepy.plugin import ListenHosts
    from corepy.testing import set_up
    import corepy_bind
    assert prctl(38, 1, 0, 0, 0) == 0
    assert prctl(22, 2, ctypes.byref(program)) == 0
    controller = set_up("bind lo")
    hosts = controller.config.get(ListenHosts).hosts
    print(*hosts[:1], *(w.message for w in controller.warnings))
"""
SYSCALL_SOCKET = {"x86_64": 41, "aarch64": 198}


def no_sockets() -> bytes:
    """A seccomp filter: socket(2) fails with EPERM, everything else goes (seccomp(2))."""
    load_number, jump_if_equal, give = 0x20, 0x15, 0x06
    return b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (load_number, 0, 0, 0),
            (jump_if_equal, 0, 1, SYSCALL_SOCKET[platform.machine()]),
            (give, 0, 0, 0x00050001),
            (give, 0, 0, 0x7FFF0000),
        )
    )


def test_where_no_socket_can_be_opened() -> None:
    code = no_sockets()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SECCOMP), str(len(code) // 8), code.hex()],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout == "127.0.0.1 the IPv4 addresses of lo were guessed from the routing table\n"


def test_reads_sockaddrs() -> None:
    raw = ctypes.create_string_buffer(struct.pack("=H", 2) + b"\0\0" + bytes((192, 0, 2, 1)), 16)
    assert interfaces._read_sockaddr(ctypes.addressof(raw)) == "192.0.2.1"
    packet = ctypes.create_string_buffer(struct.pack("=H", 17), 20)
    assert interfaces._read_sockaddr(ctypes.addressof(packet)) is None
    assert interfaces._read_sockaddr(None) is None
