"""How nodecache loads its libraries, and how it reads entries that it did not write."""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import corepy_nodecache
from corepy_nodecache import libiptc, xtentry
from corepy_nodecache.host_thread import HostThread
from corepy_nodecache.model import Family, FilterRule, HostError, UntrackedEndpoint, rules_for
from corepy_nodecache.tables import each_family

if TYPE_CHECKING:
    from collections.abc import Callable

V4 = rules_for(UntrackedEndpoint("dns", "169.254.20.10", 53))
V6 = rules_for(UntrackedEndpoint("dns", "fd00::10", 53))


def test_one_process_of_a_server_acts() -> None:
    assert (corepy_nodecache.api_version, corepy_nodecache.acts_once) == (1, True)


def test_variables_are_set_for_the_import_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPY_A", "mine")
    monkeypatch.delenv("COREPY_B", raising=False)

    def work() -> None:
        with libiptc._environment({"COREPY_A": "other", "COREPY_B": "new"}):
            assert (os.environ["COREPY_A"], os.environ["COREPY_B"]) == ("mine", "new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert os.environ["COREPY_A"] == "mine"
    assert "COREPY_B" not in os.environ


def test_libraries_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def search(name: str) -> str:
        asked.append(name)
        return f"found {name}"

    monkeypatch.setattr(ctypes.util, "find_library", search)
    monkeypatch.setitem(libiptc._SONAMES, "gone", "libcorepy-gone.so.9")
    with libiptc._known_libraries():
        found = [ctypes.util.find_library(name) for name in ("c", "gone", "other")]
    assert found == ["libc.so.6", "found gone", "found other"]
    assert asked == ["gone", "other"]
    assert ctypes.util.find_library is search


def test_setuptools_stays_out_of_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    shim = SimpleNamespace(
        remove_shim=lambda: done.append("removed"), add_shim=lambda: done.append("added")
    )
    monkeypatch.setitem(sys.modules, "_distutils_hack", shim)

    def work() -> None:
        with libiptc._without_setuptools():
            done.append("import")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert done == ["removed", "import", "added"]
    monkeypatch.delitem(sys.modules, "_distutils_hack")
    with libiptc._without_setuptools():
        done.append("without")
    assert done[3:] == ["without"]


def test_pyroute2_is_loaded_in_parts_and_whole_for_others() -> None:
    code = """
import sys
from corepy_nodecache.rtnetlink import parts
found = parts()
assert "pyroute2" not in sys.modules
assert "pyroute2.wireguard" not in sys.modules and "pyroute2.ipset" not in sys.modules
assert parts() is found
import pyroute2
assert pyroute2.IPRoute.__module__ == found.route.__module__
parts.cache_clear()
assert parts().error is found.error
assert sys.modules["pyroute2"] is pyroute2
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def counts(*ends: tuple[int, int] | HostError) -> Callable[[Family], tuple[int, int]]:
    left = list(ends)

    def work(_family: Family) -> tuple[int, int]:
        end = left.pop(0)
        if isinstance(end, HostError):
            raise end
        return end

    return work


def test_both_families_get_their_turn() -> None:
    assert each_family(counts((1, 2), (10, 20))) == (11, 22)
    first, second = HostError("iptables", "1"), HostError("iptables", "2")
    locked = HostError("iptables_lock", "3")
    for ends, expected in (
        ((first, (1, 1)), first),
        (((1, 1), second), second),
        ((first, second), first),
        ((first, locked), first),
        ((locked,), locked),
    ):
        with pytest.raises(HostError) as caught:
            each_family(counts(*ends))
        assert caught.value is expected


def test_the_worker_is_one_thread() -> None:
    async def work() -> None:
        host_thread = HostThread()
        threads = [host_thread.run(threading.current_thread) for _ in range(3)]
        found = set(await asyncio.gather(*threads))
        assert [it.name for it in found] == ["nodecache_0"]
        with pytest.raises(ZeroDivisionError):
            await host_thread.run(lambda: 1 // 0)
        host_thread.close()
        assert not found.pop().is_alive()

    asyncio.run(work())


def changed(rule: FilterRule, place: int, value: int) -> bytes:
    entry = bytearray(xtentry.encode(rule))
    entry[place] = value
    return bytes(entry)


@pytest.mark.parametrize("rule", [V4[0], V6[0]], ids=["IPv4", "IPv6"])
def test_entries_that_differ_from_ours_in_one_byte_are_others(rule: FilterRule) -> None:
    layout = xtentry._LAYOUTS[rule.family]

    def read(entry: bytes) -> FilterRule | None:
        return xtentry.decode(rule.family, rule.table, rule.chain, entry, "CT")

    assert read(xtentry.encode(rule)) == rule
    assert read(changed(rule, layout.flags + 1, 0x08)) is None  # "! -s"
    assert read(changed(rule, layout.protocol, 6)) is None  # TCP with the ports of UDP
    assert read(changed(rule, layout.protocol, 132)) is None
    assert read(changed(rule, layout.size + 2, ord("x"))) is None  # the ports' match is another's


def test_entries_with_another_match_are_others() -> None:
    rule = V4[0]
    entry = bytearray(xtentry.encode(rule))
    layout = xtentry._LAYOUTS[4]
    more = xtentry._extension("mark", b"\0" * 16)
    start = layout.size
    entry[start:start] = more
    target, end = (
        int.from_bytes(entry[layout.offsets + it : layout.offsets + it + 2], sys.byteorder)
        for it in (0, 2)
    )
    for place, value in ((0, target + len(more)), (2, end + len(more))):
        start = layout.offsets + place
        entry[start : start + 2] = value.to_bytes(2, sys.byteorder)
    assert xtentry.decode(4, "raw", rule.chain, bytes(entry), "CT") is None


def test_targets_have_their_names() -> None:
    for rule in (*V4, *V6):
        entry = xtentry.encode(rule)
        name = "CT" if rule.target == "NOTRACK" else rule.target
        assert xtentry.decode(rule.family, rule.table, rule.chain, entry, name) == rule
    # CT does other things than NOTRACK, and other targets have other data at its place.
    entry = xtentry.encode(V4[0])
    data = entry.rindex(b"CT\0") + 30
    tracking = entry[:data] + b"\0\0" + entry[data + 2 :]
    for target, expected in (("CT", "CT"), ("TRACE", "TRACE")):
        found = xtentry.decode(4, "raw", "OUTPUT", tracking, target)
        assert found is not None
        assert found.target == expected
    other = xtentry.decode(4, "raw", "OUTPUT", entry, "LOG")
    assert other is not None
    assert other.target == "LOG"


def test_an_entry_of_the_kernel_is_named_for_deleting() -> None:
    for rule in (V4[0], V6[0]):
        entry = xtentry.encode(rule)
        place = entry.rindex(b"CT\0")
        nameless = entry[:place] + b"\0\0" + entry[place + 2 :]
        assert xtentry.named(nameless, rule.family, "CT") == entry


@pytest.mark.parametrize(
    ("rule", "size"), [(V4[0], 112 + 48 + 288 + 104), (V6[9], 168 + 48 + 288 + 40)]
)
def test_entries_have_the_sizes_of_the_kernels_structures(rule: FilterRule, size: int) -> None:
    assert len(xtentry.encode(rule)) == size
