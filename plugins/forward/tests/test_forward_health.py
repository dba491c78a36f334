"""Health checks, black holes, and what counts against an upstream."""

import itertools
import time

import pytest

from corepy.plugin import metrics
from corepy.testing import Upstream, serve
from corepy_forward.handler import Forward
from corepy_forward.metrics import PROXY, UP

RECORDS = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}


def value(name, *labels):
    metric = next(m for m in metrics.registered() if m.name == name)
    return dict(metric.children())[labels].value


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Switchable:
    """Silent or not, as told."""

    def __init__(self, answers):
        self.answers = answers
        self.probes = []

    def __call__(self, query, proto):
        if str(query.q.qtype) == "2":
            self.probes.append((str(query.q.qname), proto, query.header.rd, time.monotonic()))
        return query.reply() if self.answers else None


def pool_of(server):
    return server.plugins(Forward)[0].pool


@pytest.mark.parametrize(
    ("options", "name", "proto", "rd"),
    [
        ("", ".", "udp", 1),
        ("force_tcp", ".", "tcp", 1),
        ("health_check 0.1s no_rec domain example.org", "example.org.", "udp", 0),
    ],
)
def test_every_upstream_is_probed_at_start(options, name, proto, rd):
    behave = Switchable(True)
    with Upstream(behave) as upstream:
        with serve(f".:0 {{\nforward . {upstream.to} {{\n{options}\n}}\n}}"):
            wait_for(lambda: behave.probes)
            time.sleep(0.3)
        assert [probe[:3] for probe in behave.probes] == [(name, proto, rd)]


def test_max_fails_0_probes_nothing():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        with serve(f".:0 {{\nforward . {upstream.to} {{\nmax_fails 0\n}}\n}}") as server:
            assert server.ask("example.org").header.rcode == 2
        assert not behave.probes


def test_down_and_up_again():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        options = "health_check 10ms\nfailfast_all_unhealthy_upstreams\nmax_fails 1"
        with serve(f".:0 {{\nforward . {upstream.to} {{\n{options}\n}}\n}}") as server:
            pool = pool_of(server)
            wait_for(lambda: pool.upstreams[0].is_down())
            broken = value("coredns_forward_healthcheck_broken_total")
            started = time.monotonic()
            assert server.ask("example.org").header.rcode == 2
            assert time.monotonic() - started < 1.5  # an upstream has 2 seconds
            assert value("coredns_forward_healthcheck_broken_total") == broken + 1
            assert value("coredns_proxy_healthcheck_failures_total", PROXY, upstream.to) >= 2
            assert value("corepy_forward_upstream_up", upstream.to) == 0
            behave.answers = True
            wait_for(lambda: not pool.upstreams[0].is_down())
            assert server.ask("example.org").header.rcode == 0
            assert value("corepy_forward_upstream_up", upstream.to) == 1


def test_an_upstream_that_is_no_longer_used_has_no_gauge():
    """Else it would be reported down, or up, until the process ends."""
    with Upstream(Switchable(True)) as kept, Upstream(Switchable(False)) as gone:
        text = ".:0 {{\nforward . {} {{\nhealth_check 10ms\nmax_fails 1\n}}\n}}"
        with serve(text.format(f"{kept.to} {gone.to}")) as server:
            wait_for(lambda: value("corepy_forward_upstream_up", gone.to) == 0)
            server.reload(text.format(kept.to))
            wait_for(lambda: (gone.to,) not in dict(UP.children()))
            assert value("corepy_forward_upstream_up", kept.to) == 1
        assert (kept.to,) not in dict(UP.children())


def test_without_failfast_a_down_upstream_is_tried():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        text = f".:0 {{\nforward . {upstream.to} {{\nhealth_check 10s\nmax_fails 1\n}}\n}}"
        with serve(text) as server:
            pool = pool_of(server)
            server.call(lambda: [pool.upstreams[0].unhealthy() for _ in range(2)])
            assert pool.upstreams[0].is_down()
            behave.answers = True
            assert server.ask("example.org").header.rcode == 0


def test_probes_become_rarer_while_all_is_down():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        with serve(f".:0 {{\nforward . {upstream.to} {{\nhealth_check 100ms\n}}\n}}"):
            wait_for(lambda: len(behave.probes) >= 4)
        times = [probe[3] for probe in behave.probes]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[-1] > gaps[0]


def test_black_hole_is_passed_over_from_the_first_query_on():
    with Upstream(lambda *_: None) as dead, Upstream(RECORDS) as alive:
        with serve(f".:0 {{\nforward . {dead.to} {alive.to}\n}}") as server:
            took = []
            for _ in range(60):
                started = time.monotonic()
                assert server.ask("example.org").rr
                took.append(time.monotonic() - started)
        took.sort()
        assert took[-1] < 1.5  # one patience (2 s without it), generously: the machine may be busy
        assert took[30] < 0.1
