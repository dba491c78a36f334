"""What the supervisor makes of a worker's silence. Nobody answers here: the selector is not run."""

import resource
import selectors
from contextlib import ExitStack

import pytest

from corepy.net.cpu_starvation import CpuTimes
from corepy.net.sockets import Address, open_all, open_tcp, open_udp
from corepy.supervise import probe as module
from corepy.supervise.probe import (
    INTERVAL,
    PARTLY_SILENT_AFTER,
    SILENT_AFTER,
    STARVED_AFTER,
    SUSPECT_AFTER,
    Probe,
)

NOBODY = 0
"""The ID of no process."""


@pytest.fixture
def sockets():
    """Two pairs of listening sockets at different ports, by name."""
    with ExitStack() as stack:
        names = ["udp-a", "tcp-a", "udp-b", "tcp-b"]
        pairs = [open_all(Address("127.0.0.1", 0), ("udp", "tcp")) for _ in range(2)]
        yield dict(
            zip(names, [stack.enter_context(it) for pair in pairs for it in pair], strict=True)
        )


@pytest.fixture
def probe(sockets):
    with selectors.DefaultSelector() as selector:
        it = Probe(selector)
        it.reset(sockets, NOBODY)
        yield it
        it.stop()


def rounds(probe, sockets, number):
    """Ask so many times; return the verdict."""
    for _ in range(number):
        probe.ask(sockets)
    return probe.find_problem()


def test_one_that_answers_nothing_is_given_up_quickly(probe, sockets):
    assert rounds(probe, sockets, SILENT_AFTER - 1) is None
    assert "no response for" in rounds(probe, sockets, 1)


def test_one_that_is_silent_for_a_moment_is_suspect_before_it_is_given_up(probe, sockets):
    probe.record_alive()
    rounds(probe, sockets, SUSPECT_AFTER - 1)
    assert not probe.is_suspect()
    assert rounds(probe, sockets, 1) is None
    assert probe.is_suspect()
    probe.record_alive()
    assert not probe.is_suspect()


def test_an_address_that_is_given_up_counts_no_more(probe, sockets):
    """It was asked last just before, and what it owed stood for an answer ever after."""
    probe.ask(sockets)
    left = {name: it for name, it in sockets.items() if name.endswith("a")}
    assert "no response for" in rounds(probe, left, SILENT_AFTER)


def test_one_that_says_nothing_is_given_up_quickly(probe, sockets):
    probe.record_alive()
    assert rounds(probe, sockets, SILENT_AFTER - 1) is None
    assert "no response for" in rounds(probe, sockets, 1)


def test_one_whose_loop_turns_is_given_time(probe, sockets):
    """Another process of the server may have got all the questions, and hang."""
    for _ in range(PARTLY_SILENT_AFTER - 1):
        probe.record_alive()
        assert rounds(probe, sockets, 1) is None
    probe.record_alive()
    assert "no reply at udp-a" in rounds(probe, sockets, 1)


def test_an_address_that_no_interface_has_is_not_asked(probe):
    """Nobody could answer there."""
    absent = Address("192.0.2.53", 5300)
    with open_udp(absent, free=True) as udp, open_tcp(absent, free=True) as tcp:
        assert rounds(probe, {"udp-a": udp, "tcp-a": tcp}, PARTLY_SILENT_AFTER + 1) is None


def test_one_that_ends_is_not_expected_to_say_anything(probe, sockets):
    probe.record_alive()
    probe.record_alive(last=True)
    assert rounds(probe, {}, SILENT_AFTER) is None


def test_one_that_gets_no_cpu_is_given_time(probe, sockets, monkeypatch):
    got = iter(range(1000))

    def starving(_pid):
        """Each look-up is a second later, and all of the second was waited."""
        now = next(got) * 10**9
        return CpuTimes(now, 0, now, "R")

    monkeypatch.setattr(module, "cpu_times", starving)
    probe.reset(sockets, NOBODY)
    probe.record_alive()
    assert rounds(probe, sockets, STARVED_AFTER - 1) is None
    assert not probe.is_suspect()
    assert "no response for 10 s" in rounds(probe, sockets, 1)


@pytest.mark.parametrize(("share", "limit"), [(0.1, 6), (0.25, 7), (0.4, 8)])
def test_time_in_which_it_waits_for_a_cpu_does_not_count(probe, sockets, monkeypatch, share, limit):
    """With less than half of its time it is not starved, but everything takes longer."""

    def busy(_pid):
        now = asked * INTERVAL * 10**9
        return CpuTimes(int(now), int(0.5 * now), int(share * now), "R")

    monkeypatch.setattr(module, "cpu_times", busy)
    asked, problem = 0, None
    probe.reset(sockets, NOBODY)
    probe.record_alive()
    while problem is None:
        asked += 1
        problem = rounds(probe, sockets, 1)
    assert asked == limit
    assert problem == f"no response for {limit * INTERVAL:g} s"


def test_a_supervisor_that_cannot_ask_does_not_blame_the_worker(probe, sockets):
    """As when the system has no descriptors left."""
    probe.record_alive()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for _ in range(2 * PARTLY_SILENT_AFTER):
            probe.record_alive()
            assert rounds(probe, sockets, 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
