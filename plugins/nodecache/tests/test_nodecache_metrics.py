"""The metrics at node-cache's address: names, types, labels and values, and the address itself."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from corepy.http.metrics import exposition, metrics_endpoint
from corepy.plugin import metrics
from corepy.testing import Upstream, free_port, http_get, run_command, serve
from corepy.testing.command import wait_until
from corepy_nodecache.setup_metrics import IN_FLIGHT, SCRAPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ERRORS = {
    "errortype": {"configmap", "interface_add", "interface_check", "iptables", "iptables_lock"}
}
KINDS = {"type": {"success", "denial"}}


class Theirs(NamedTuple):
    """A metric of node-cache, and why corepy has none of this name."""

    kind: str
    labels: str = ""
    values: Mapping[str, set[str]] = MappingProxyType({})
    """The values of labels that have a fixed set of them."""

    plugin: str = ""
    """The module that declares it in corepy."""

    missing: str = ""


TRANSPORT = "corepy does not serve this transport"
RUNTIME = "Go's runtime"
NEVER = "declared by a library, without any sample: nothing in node-cache uses the library's dialer"
PROXY, TEMPLATE = "corepy_forward.metrics", "corepy_template.metrics"
DNS = "corepy_prometheus.series"

GO_MEMORY = (
    "alloc_bytes", "alloc_bytes_total", "sys_bytes", "mallocs_total", "frees_total",
    "heap_alloc_bytes", "heap_sys_bytes", "heap_idle_bytes", "heap_inuse_bytes",
    "heap_released_bytes", "heap_objects", "stack_inuse_bytes", "stack_sys_bytes",
    "mspan_inuse_bytes", "mspan_sys_bytes", "mcache_inuse_bytes", "mcache_sys_bytes",
    "buck_hash_sys_bytes", "gc_sys_bytes", "other_sys_bytes", "next_gc_bytes",
    "last_gc_time_seconds",
)  # fmt: skip

UPSTREAM = {
    # node-local-dns c75f51d: cmd/node-cache/app/metrics.go
    "coredns_nodecache_setup_errors_total": Theirs(
        "counter", "errortype", ERRORS, "corepy_nodecache.metrics"
    ),
    # CoreDNS 1.14.4 as vendored there: plugin/metrics, and the metrics.go of each imported plugin
    "coredns_build_info": Theirs("gauge", "version revision goversion"),
    "coredns_panics_total": Theirs("counter"),
    "coredns_plugin_enabled": Theirs(
        "gauge", "server zone view name", plugin="corepy_prometheus.enabled"
    ),
    "coredns_dns_requests_total": Theirs(
        "counter", "server zone view proto family type", plugin=DNS
    ),
    "coredns_dns_request_duration_seconds": Theirs("histogram", "server zone view", plugin=DNS),
    "coredns_dns_request_size_bytes": Theirs("histogram", "server zone view proto", plugin=DNS),
    "coredns_dns_do_requests_total": Theirs("counter", "server zone view", plugin=DNS),
    "coredns_dns_response_size_bytes": Theirs("histogram", "server zone view proto", plugin=DNS),
    "coredns_dns_responses_total": Theirs("counter", "server zone view rcode plugin", plugin=DNS),
    "coredns_dns_https_responses_total": Theirs("counter", "server status"),
    "coredns_dns_https3_responses_total": Theirs("counter", "server status"),
    "coredns_dns_quic_responses_total": Theirs("counter", "server status"),
    "coredns_cache_entries": Theirs("gauge", "server type zones view", KINDS),
    "coredns_cache_requests_total": Theirs("counter", "server zones view"),
    "coredns_cache_hits_total": Theirs("counter", "server type zones view", KINDS),
    "coredns_cache_misses_total": Theirs("counter", "server zones view"),
    "coredns_cache_prefetch_total": Theirs("counter", "server zones view"),
    "coredns_cache_drops_total": Theirs("counter", "server zones view"),
    "coredns_cache_served_stale_total": Theirs("counter", "server zones view"),
    "coredns_cache_evictions_total": Theirs("counter", "server type zones view", KINDS),
    "coredns_dns64_requests_translated_total": Theirs(
        "counter", "server", plugin="corepy_dns64.dns64"
    ),
    "coredns_forward_healthcheck_broken_total": Theirs("counter", plugin=PROXY),
    "coredns_forward_max_concurrent_rejects_total": Theirs("counter", plugin=PROXY),
    "coredns_proxy_request_duration_seconds": Theirs(
        "histogram", "proxy_name to rcode", {"proxy_name": {"forward"}}, PROXY
    ),
    "coredns_proxy_healthcheck_failures_total": Theirs("counter", "proxy_name to", plugin=PROXY),
    "coredns_proxy_conn_cache_hits_total": Theirs(
        "counter", "proxy_name to proto", {"proxy_name": {"forward"}, "proto": {"udp"}}, PROXY
    ),
    "coredns_proxy_conn_cache_misses_total": Theirs(
        "counter", "proxy_name to proto", {"proxy_name": {"forward"}, "proto": {"udp"}}, PROXY
    ),
    "coredns_health_request_duration_seconds": Theirs("histogram", plugin="corepy_health.overload"),
    "coredns_health_request_failures_total": Theirs("counter", plugin="corepy_health.overload"),
    "coredns_hosts_entries": Theirs("gauge", "hostsfile", plugin="corepy_hosts.metrics"),
    "coredns_hosts_reload_timestamp_seconds": Theirs("gauge", plugin="corepy_hosts.metrics"),
    "coredns_reload_failed_total": Theirs("counter", plugin="corepy_reload.metrics"),
    "coredns_reload_version_info": Theirs(
        "gauge", "hash value", {"hash": {"sha512"}}, "corepy_reload.metrics"
    ),
    "coredns_template_matches_total": Theirs(
        "counter", "server zone view class type", plugin=TEMPLATE
    ),
    "coredns_template_template_failures_total": Theirs(
        "counter", "server zone view class type section template", plugin=TEMPLATE
    ),
    "coredns_template_rr_failures_total": Theirs(
        "counter", "server zone view class type section template", plugin=TEMPLATE
    ),
    # client_golang 1.23.2: promhttp.Handler, NewProcessCollector, NewGoCollector
    "promhttp_metric_handler_requests_total": Theirs(
        "counter", "code", {"code": {"200", "500", "503"}}
    ),
    "promhttp_metric_handler_requests_in_flight": Theirs("gauge"),
    "process_cpu_seconds_total": Theirs("counter"),
    "process_open_fds": Theirs("gauge"),
    "process_max_fds": Theirs("gauge"),
    "process_virtual_memory_bytes": Theirs("gauge"),
    "process_virtual_memory_max_bytes": Theirs("gauge"),
    "process_resident_memory_bytes": Theirs("gauge"),
    "process_start_time_seconds": Theirs("gauge"),
    "process_network_receive_bytes_total": Theirs("counter"),
    "process_network_transmit_bytes_total": Theirs("counter"),
    "go_goroutines": Theirs("gauge", missing=RUNTIME),
    "go_threads": Theirs("gauge", missing=RUNTIME),
    "go_gc_duration_seconds": Theirs("summary", "quantile", missing=RUNTIME),
    "go_info": Theirs("gauge", "version", missing=RUNTIME),
    **{
        f"go_memstats_{name}": Theirs(
            "counter" if name.endswith("_total") else "gauge", missing=RUNTIME
        )
        for name in GO_MEMORY
    },
    "go_gc_gogc_percent": Theirs("gauge", missing=RUNTIME),
    "go_gc_gomemlimit_bytes": Theirs("gauge", missing=RUNTIME),
    "go_sched_gomaxprocs_threads": Theirs("gauge", missing=RUNTIME),
    # mwitkow/go-conntrack, imported by prometheus/common/config
    **{
        f"net_conntrack_{name}": Theirs("counter", labels, missing=NEVER)
        for name, labels in {
            "dialer_conn_attempted_total": "dialer_name",
            "dialer_conn_established_total": "dialer_name",
            "dialer_conn_failed_total": "dialer_name reason",
            "dialer_conn_closed_total": "dialer_name",
            "listener_conn_accepted_total": "listener_name",
            "listener_conn_closed_total": "listener_name",
        }.items()
    },
}

HERE = {name: it for name, it in UPSTREAM.items() if not it.missing}

QUIET = {
    # without a sample until a query or an upstream does this, here as there
    "coredns_proxy_healthcheck_failures_total",
    "coredns_template_template_failures_total",
    "coredns_template_rr_failures_total",
    "coredns_dns64_requests_translated_total",
}


def text_of(port: int) -> str:
    page = http_get(port, "/metrics", timeout=60)
    assert page.status == 200
    return page.text


class Exported(NamedTuple):
    kind: str
    labels: set[str]
    values: dict[str, set[str]]


def exported(text: str) -> dict[str, Exported]:
    """The metrics of a scrape by name."""
    found: dict[str, Exported] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        values: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
        values.pop("le", None)
        found[name] = Exported(family.type, set(values), values)
    return found


def value(text: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found)


NOTHING = "nodecache {{\n device off\n iptables off\n metrics {address}\n }}"


def corefile(address: str, more: str = "") -> str:
    return f".:0 {{\n bind 127.0.0.1\n {NOTHING.format(address=address)}\n {more}\n whoami\n}}\n"


def test_every_declaration_is_that_of_node_cache() -> None:
    """Types and labels; of the names that are missing, corepy declares none."""
    for upstream in UPSTREAM.values():
        if upstream.plugin:
            import_module(upstream.plugin)
    import_module("corepy_cache.metrics")
    declared = {
        it.name: (it.kind, " ".join(it.label_names))
        for it in metrics.registered()
        if it.name in UPSTREAM
    }
    by_hand = {"coredns_build_info", *(name for name in HERE if name.startswith("process_"))}
    assert declared == {
        name: (it.kind, it.labels) for name, it in HERE.items() if name not in by_hand
    }
    assert (len(UPSTREAM), len(HERE)) == (83, 45)


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[str, str]]:
    """The scrapes of both addresses, of a server with the plugins of node-cache's image."""
    ports = {name: free_port() for name in ("metrics", "prometheus", "health")}
    upstream = Upstream({})  # NXDOMAIN
    text = f"""\
.:0 {{
    bind 127.0.0.1
    multisocket 2
    {NOTHING.format(address=f"127.0.0.1:{ports['metrics']}")}
    errors
    cache
    debug
    bufsize
    dns64
    loadbalance
    log
    prometheus 127.0.0.1:{ports["prometheus"]}
    health 127.0.0.1:{ports["health"]}
    reload
    template IN TXT test {{
        answer "{{{{ .Name }}}} 60 IN TXT a"
    }}
    hosts {{
        10.0.0.1 hosts.test
        fallthrough
    }}
    forward . {upstream.to}
}}
"""
    with upstream, run_command(text) as server:
        for number in range(4):  # more than there are processes: one asks the upstream again
            assert server.ask(f"{number}.test").header.rcode == 3
        assert server.ask("hosts.test").header.rcode == 0
        assert server.ask("x.test", "TXT").header.rcode == 0
        yield text_of(ports["metrics"]), text_of(ports["prometheus"])


def test_both_addresses_have_the_names_of_node_cache(pages: tuple[str, str]) -> None:
    for text in pages:
        found = exported(text)
        assert set(HERE) - QUIET - set(found) == set()
        assert set(found) & (set(UPSTREAM) - set(HERE)) == set()
        for name, upstream in HERE.items():
            if name in found:
                assert found[name].kind == upstream.kind, name
                assert found[name].labels == set(upstream.labels.split()), name
                for label, values in upstream.values.items():
                    assert found[name].values[label] == values, name
    assert set(exported(pages[0])) == set(exported(pages[1]))


def test_errors_are_zero_from_the_start(pages: tuple[str, str]) -> None:
    for text in pages:
        lines = re.findall(r"^.*coredns_nodecache_setup_errors_total.*\n", text, re.MULTILINE)
        name, label = "coredns_nodecache_setup_errors_total", "errortype"
        assert lines == [
            f"# HELP {name} The number of errors during periodic network setup for node-cache\n",
            f"# TYPE {name} counter\n",
            *(f'{name}{{{label}="{kind}"}} 0\n' for kind in sorted(ERRORS[label])),
        ]


def test_the_scrapes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    series, flying = "promhttp_metric_handler_requests_total", IN_FLIGHT
    port = free_port()
    before = {code: SCRAPES.labels(code).value for code in ("200", "500", "503")}
    with serve(corefile(f"127.0.0.1:{port}")):
        for number in range(3):
            text = text_of(port)
            assert value(text, f'{series}{{code="200"}}') == before["200"] + number
            assert value(text, "promhttp_metric_handler_requests_in_flight") == 1
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")  # and never reads
        wait_until(lambda: SCRAPES.labels("200").value == before["200"] + 4)
        assert http_get(port, "/other").status == 404

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("a collector fails")

        with monkeypatch.context() as patch:
            patch.setattr(exposition, "parts", fail)
            assert http_get(port, "/metrics").status == 500
        text = text_of(port)
        assert value(text, f'{series}{{code="500"}}') == before["500"] + 1
    assert (flying.value, SCRAPES.labels("503").value) == (0, 0)


def test_scrapes_go_on_over_reloads_and_end_with_the_server() -> None:
    port = free_port()
    text = corefile(f"127.0.0.1:{port}")
    with serve(text) as server:
        server.reload_under(lambda: text_of(port), text, times=4)
        server.reload(text.replace(f"metrics 127.0.0.1:{port}", ""))
        with pytest.raises(ConnectionRefusedError):
            text_of(port)
        server.reload(text)
        text_of(port)
    with pytest.raises(ConnectionRefusedError):
        text_of(port)


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("127.0.0.1:{}", "127.0.0.1:{}"),
        ("0.0.0.0:{}", ":{}"),
        (":{}", "localhost:{}"),
    ],
)
def test_prometheus_may_have_the_same_address(
    address: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    text = corefile(
        address.format(port), f"prometheus {other.format(port)}\nhealth {other.format(port)}"
    )
    with serve(text) as server:
        assert "coredns_dns_requests_total" in exported(text_of(port)) or server.ask("a.test")
        server.reload_under(lambda: text_of(port), text, times=3)
        server.reload(corefile(address.format(port)))
        assert "coredns_nodecache_setup_errors_total" in exported(text_of(port))
        server.reload(text.replace("metrics", "interval 60s\n#"))
        assert "coredns_dns_requests_total" in text_of(port)
    assert "cannot listen" not in caplog.text


def test_an_address_in_use_costs_no_query(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "corepy")
    monkeypatch.setattr(metrics_endpoint, "FIRST_PAUSE", 0.05)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with serve(corefile(f"127.0.0.1:{port}")) as server:
            assert server.ask("example.org").header.rcode == 0
            assert f"cannot listen on tcp 127.0.0.1:{port}: another program" in caplog.text
            names = {it.name for it in caplog.records if "cannot listen" in it.message}
            assert names == {"corepy.plugin.nodecache"}
            busy.close()
            wait_until(lambda: f"metrics are now exported at 127.0.0.1:{port}" in caplog.text)
            assert "coredns_nodecache_setup_errors_total" in text_of(port)


def test_a_successor_takes_over_the_address() -> None:
    """As in an update with maxSurge: every scrape is answered, by either server."""
    dns, port = free_port(), free_port()
    text = corefile(f"127.0.0.1:{port}").replace(".:0", f".:{dns}")
    with ExitStack() as stack:
        first = stack.enter_context(run_command(text, "-supervise"))
        assert "process_network_receive_bytes_total" in exported(text_of(port))
        second = stack.enter_context(run_command(text))
        text_of(port)
        assert first.stop() == 0
        for _ in range(5):
            text_of(port)
        assert second.stop() == 0
        assert "cannot listen" not in first.output + second.output
