"""Health checks, black holes, and what counts against an upstream."""

import itertools
from functools import partial

import pytest

from corepy.plugin import control_client, metrics
from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers
from corepy.testing.command import wait_until
from corepy_forward.failures import TIMEOUT
from corepy_forward.handler import Forward
from corepy_forward.metrics import PROXY, UP
from corepy_forward.settings import HealthCheckOptions as Probing

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

RECORDS = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}


def value(name, *labels):
    metric = next(m for m in metrics.registered() if m.name == name)
    return dict(metric.children())[labels].value


class Switchable:
    """Silent or not, as told."""

    def __init__(self, answers):
        self.answers = answers
        self.probes = []

    def __call__(self, query, proto):
        if str(query.q.qtype) == "2":
            self.probes.append((str(query.q.qname), proto, query.header.rd))
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
            wait_until(lambda: behave.probes)
        assert set(behave.probes) == {(name, proto, rd)}


def test_a_probe_that_is_answered_is_the_last(on_bench):
    async def test(bench):
        bench.pool.start_checks()
        await bench.let_pass(0.5)
        assert bench.counts() == [1]
        bench.sinks[0].reply()
        await bench.let_pass(5)
        assert bench.counts() == [0]
        assert bench.pool.is_any_well()

    on_bench(test, max_fails=2)


def test_max_fails_0_probes_nothing():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        with serve_with_timers(
            f".:0 {{\nforward . {upstream.to} {{\nmax_fails 0\n}}\n}}"
        ) as server:
            assert server.ask("example.org").header.rcode == 2
        assert not behave.probes


def test_down_and_up_again():
    behave = Switchable(False)
    with Upstream(behave) as upstream:
        options = "health_check 10ms\nfailfast_all_unhealthy_upstreams\nmax_fails 1"
        with serve_with_timers(f".:0 {{\nforward . {upstream.to} {{\n{options}\n}}\n}}") as server:
            pool = pool_of(server)
            wait_until(lambda: pool.upstreams[0].is_down())
            broken = value("coredns_forward_healthcheck_broken_total")
            assert server.ask("example.org").header.rcode == 2
            assert {text for text, _ in upstream.queries} == {". NS"}  # it was not even asked
            assert value("coredns_forward_healthcheck_broken_total") == broken + 1
            assert value("coredns_proxy_healthcheck_failures_total", PROXY, upstream.to) >= 2
            assert value("corepy_forward_upstream_up", upstream.to) == 0
            behave.answers = True
            wait_until(lambda: not pool.upstreams[0].is_down())
            assert server.ask("example.org").header.rcode == 0
            assert value("corepy_forward_upstream_up", upstream.to) == 1


def test_an_upstream_that_is_no_longer_used_has_no_gauge():
    """Else it would be reported down, or up, until the process ends."""
    with Upstream(Switchable(True)) as kept, Upstream(Switchable(False)) as gone:
        text = ".:0 {{\nforward . {} {{\nhealth_check 10ms\nmax_fails 1\n}}\n}}"
        with serve_with_timers(text.format(f"{kept.to} {gone.to}")) as server:
            wait_until(lambda: value("corepy_forward_upstream_up", gone.to) == 0)
            server.reload(text.format(kept.to))
            wait_until(lambda: (gone.to,) not in dict(UP.children()))
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


def test_probes_become_rarer_while_all_is_down(on_bench):
    async def test(bench):
        began = bench.loop.now
        times: list[float] = []
        bench.pool.start_checks()
        while len(times) < 5:
            await bench.let_pass(0.05)
            times += [bench.loop.now - began] * (bench.counts()[0] - len(times))
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps == pytest.approx([TIMEOUT + pause for pause in (0.1, 0.2, 0.4, 0.4)], abs=0.06)

    on_bench(test, max_fails=2, health=Probing(interval=0.1))


def test_black_hole_is_passed_over_from_the_first_query_on():
    """How soon: `test_a_silent_upstream_costs_one_patience_a_few_times`."""
    with (
        Upstream(lambda *_: None) as dead,
        Upstream(RECORDS) as alive,
        serve_with_timers(f".:0 {{\nforward . {dead.to} {alive.to}\n}}") as server,
    ):
        for _ in range(60):
            assert server.ask("example.org").rr


def test_the_status_has_every_upstream(folder_of_sockets):
    """A health check is not a query, and the first failure is not that of a query."""
    with Upstream(RECORDS) as upstream, Upstream(Switchable(False)) as silent:
        text = f".:0 {{\nbind 127.0.0.1\nforward . {upstream.to} {silent.to} {{\npolicy sequential\n}}\n}}"
        with serve(text, control=True) as server:
            (path,) = folder_of_sockets.glob(control_client.PATTERN)
            server.ask("example.org")
            (plugin,) = control_client.ask(path, "stats")["plugins"]
            pool = pool_of(server)
            server.call(pool.upstreams[1].unhealthy)
            server.call(setattr, pool.upstreams[0], "is_suspect", True)
            server.call(pool.upstreams[1]._count_failure, "timeout")
            suspect = control_client.ask(path, "stats")["plugins"][0]["status"]
            for each in pool.upstreams:
                for _ in range(3):
                    server.call(each.unhealthy)
            down = control_client.ask(path, "status")
    first, second = plugin["status"]["upstreams"]
    assert first == {
        "address": upstream.to, "protocol": "udp", "state": "up", "rtt": first["rtt"],
        "queries": 1, "failures": 0, "in_flight": 0, "failed_checks": 0, "last_failure": None,
    }  # fmt: skip
    assert 0 < first["rtt"] < 60
    assert (second["queries"], second["rtt"], plugin["status"]["problems"]) == (0, None, [])
    first, second = suspect["upstreams"]
    assert (first["state"], second["state"]) == ("suspect", "up")
    assert (second["queries"], second["failures"], second["last_failure"]) == (1, 1, "timeout")
    assert second["failed_checks"] == 1
    assert down["problems"] == ["forward: all upstreams for . are down"]
    assert {it["state"] for it in down["plugins"][0]["status"]["upstreams"]} == {"down"}


@pytest.fixture
def folder_of_sockets(tmp_path, monkeypatch):
    """Keep the control socket of a test to itself."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path
