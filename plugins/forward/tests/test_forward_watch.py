"""The upstreams that this machine can use, and when they are looked at; the clock is the test's."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from corepy.testing import controller_for, set_up
from corepy_forward import usable
from corepy_forward.settings import Settings
from corepy_forward.targets import Hostname, Target, ToAddress
from corepy_forward.usable import (
    Choice,
    Watch,
    changes,
    choose,
    interface_index,
    named_addresses,
    own_among,
)

GOOD, OTHER = Target("192.0.2.1", 53), Target("192.0.2.2", 53)
LINK = Target("fe80::1", 53, scope="wlan9")
SKIPPED = (
    "C:2: [fe80::1%wlan9]:53 is skipped until it can be used:"
    " network interface 'wlan9' does not exist"
)
HOST = Hostname("dns.example", 53, "dns", "")


def test_addresses_that_a_block_is_bound_to():
    config = controller_for(
        "forward . 192.0.2.1", "a:53 tls://b:853 c:54", ("192.0.2.1", "", "::1", "0.0.0.0", "::")
    ).config
    assert sorted(named_addresses(config)) == [
        ("192.0.2.1", 53),
        ("192.0.2.1", 54),
        ("::1", 53),
        ("::1", 54),
    ]


@pytest.mark.parametrize(
    ("own", "scope", "is_own"),
    [
        ("fe80::1%eth0", "eth0", True),
        ("fe80::1%eth0", "eth1", False),
        ("fe80::1%eth0", "", True),
        ("fe80::1", "eth0", True),
        ("fe80::2%eth0", "eth0", False),
    ],
)
def test_own_link_local_addresses(own, scope, is_own):
    """The same address may be another machine's on another link."""
    target = Target("fe80::1", 53, scope=scope)
    assert own_among([target], [(own, 53)]) == (target if is_own else None)
    assert own_among([target], [(own, 54)]) is None


def test_what_is_chosen_and_what_is_said_of_the_rest():
    entry = ToAddress("conf", [LINK], position="C:2", problems=["C:1: x"])
    assert choose([entry], []) == Choice([], ["C:1: x", SKIPPED])
    entry.targets = [LINK, GOOD]
    assert choose([entry], []) == Choice([GOOD], ["C:1: x", SKIPPED])
    entry.targets = [LINK]
    stays = "conf: its last name servers stay in use"
    assert choose([entry], []) == Choice([GOOD], ["C:1: x", SKIPPED, stays])
    entry.targets, entry.problems = [], []
    assert choose([entry], []) == Choice([GOOD], [])
    entry.targets, entry.positions = [LINK], {LINK: "resolv.conf:9"}
    assert choose([entry], []).problems == [SKIPPED.replace("C:2", "resolv.conf:9"), stays]


@pytest.mark.parametrize(
    ("entry", "is_skipped"),
    [
        (ToAddress("192.0.2.1", [GOOD]), False),  # the setup has refused it already
        (ToAddress("conf", [GOOD], file=Path("conf"), position="C:2"), True),
        (ToAddress("dns.example", [GOOD], hostname=HOST, position="C:2"), True),
    ],
)
def test_own_addresses_that_are_skipped(entry, is_skipped):
    problem = "C:2: 192.0.2.1:53 is this server itself; the line is skipped"
    expected = Choice([], [problem]) if is_skipped else Choice([GOOD], [])
    assert choose([entry], [("192.0.2.1", 53)]) == expected
    assert choose([entry], [("192.0.2.2", 53)]) == Choice([GOOD], [])


def test_numbers_of_interfaces():
    number = socket.if_nametoindex("lo")
    assert [interface_index(zone) for zone in ("", "lo", str(number))] == [0, number, number]
    for zone in ("wlan9", "4711", "99999999999999999999", "\u00b2", "a\0b"):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
            interface_index(zone)
        assert str(caught.value) == f"network interface {zone!r} does not exist"


@pytest.mark.parametrize(
    ("entry", "may_change"),
    [
        (ToAddress("192.0.2.1", [GOOD]), False),
        (ToAddress("conf", [GOOD], file=Path("conf")), True),
        (ToAddress("dns.example", [], hostname=HOST), True),
        (ToAddress("dns.example", [GOOD], hostname=HOST), False),
        (ToAddress("fe80::1%wlan9", [LINK]), True),
    ],
)
def test_which_upstreams_may_change(entry, may_change):
    plain = ToAddress("192.0.2.2", [OTHER])
    assert changes(Settings(entries=[plain, entry])) is may_change
    assert changes(Settings(entries=[entry, plain])) is may_change


def write(path, text, number):
    """Write a file whose time of change is long ago, so that it has a version."""
    path.write_text(text)
    os.utime(path, (number, number))


async def after(bench, seconds):
    bench.loop.now += seconds
    await bench.turn()
    return [each.address for each in bench.pool.upstreams]


@pytest.fixture
def reads(monkeypatch):
    """Return the files that are read after the setup, in order."""
    found: list[Path] = []

    def read(path):
        found.append(path)
        return read_resolv_conf(path)

    read_resolv_conf = usable.read_resolv_conf
    monkeypatch.setattr(usable, "read_resolv_conf", read)
    return found


def test_a_file_is_looked_at_each_second_and_read_when_it_changes(
    on_bench, tmp_path, reads, caplog
):
    async def test(bench):
        path = tmp_path / "conf"
        write(path, "nameserver 192.0.2.1\n", 1)
        settings = set_up(f"forward . {path} {{\nmax_fails 0\n}}").handlers[0].settings
        watch = Watch(settings, bench.pool, [], [])
        write(path, "nameserver 192.0.2.2\n", 2)
        before = await after(bench, 0.999)
        assert (before, reads) == ([bench.sinks[0].target.address], [])
        assert await after(bench, 0.002) == ["192.0.2.2:53"]
        await after(bench, 1.0)
        assert reads == [path]
        faults = []
        for number in (3, 4):
            path.unlink()
            await after(bench, 1.0)
            await after(bench, 1.0)
            faults.append(len(caplog.records))
            write(path, f"nameserver 192.0.2.{number}\n", number)
            assert await after(bench, 1.0) == [f"192.0.2.{number}:53"]
        assert faults == [1, 2]
        watch.stop()
        write(path, "nameserver 192.0.2.9\n", 9)
        assert await after(bench, 2.0) == ["192.0.2.4:53"]

    on_bench(test)


def test_problems_of_a_file_that_was_read_again(on_bench, tmp_path):
    async def test(bench):
        path = tmp_path / "conf"
        write(path, "nameserver 192.0.2.1\n", 1)
        settings = set_up(f"forward . {path} {{\nmax_fails 0\n}}").handlers[0].settings
        watch = Watch(settings, bench.pool, [], [])
        write(path, "nameserver\nnameserver 192.0.2.2\n", 2)
        await after(bench, 1.001)
        assert watch._problems == {f"{path}:1: nameserver without an address; the line is skipped"}
        watch.stop()

    on_bench(test)


def test_a_problem_is_logged_again_when_it_comes_again(on_bench, caplog):
    async def test(bench):
        entry = ToAddress("conf", [GOOD, LINK], position="C:2")
        watch = Watch(Settings(entries=[entry]), bench.pool, [], [SKIPPED])
        counts = []
        for targets in ([GOOD, LINK], [GOOD], [GOOD, LINK], [GOOD, LINK]):
            entry.targets = targets
            await after(bench, 1.001)
            counts.append([record.getMessage() for record in caplog.records].count(SKIPPED))
        assert counts == [0, 0, 1, 1]
        watch.stop()

    on_bench(test)


def test_when_host_names_are_looked_up_again(on_bench, monkeypatch):
    """Five seconds after the last look-up ended; one at a time."""

    async def test(bench):
        found = ToAddress("192.0.2.1", [GOOD])
        entry = ToAddress("dns.example", [], hostname=HOST)
        asked: list[object] = []
        gates = [asyncio.Event(), asyncio.Event()]

        async def look_up(missing, resolvers):
            asked.append((list(missing), resolvers))
            await gates[len(asked) - 1].wait()

        monkeypatch.setattr(usable, "look_up", look_up)
        settings = Settings(entries=[found, entry], resolvers=["192.0.2.53"])
        watch = Watch(settings, bench.pool, [], [])
        expected = ([entry], ["192.0.2.53"])
        for count, seconds in ((0, 4.0), (1, 1.001), (1, 10.0)):
            for _ in range(int(seconds)):
                await after(bench, seconds / int(seconds))
            assert asked == [expected] * count
        gates[0].set()
        for count, seconds in ((1, 4.0), (2, 2.0)):
            for _ in range(int(seconds)):
                await after(bench, 1.0)
            assert asked == [expected] * count
        task = watch._look_up
        watch.stop()
        await bench.turn()
        assert task.cancelled()

    on_bench(test)
