"""What a scrape of a running server looks like, and that it is always there."""

import asyncio
import platform
import re
import socket
from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from corepy import release
from corepy.http import HTTPRequest, HTTPResponse
from corepy.http.metrics import exposition, metrics_endpoint
from corepy.plugin import CorefileError, ProcessGroup, StartupError, metrics
from corepy.testing import TestServer, free_port, http_get, run_command, serve
from corepy.testing.command import wait_until
from corepy_prometheus.handler import LOG, Prometheus
from corepy_prometheus.series import Series

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 accepts, in the order of its wishes; CoreDNS answers it in the text format."""

TEXT = "{zone} {{\nbind 127.0.0.1\nprometheus 127.0.0.1:0\ncache\nwhoami\n}}\n"


def scrape(port: int, accept: str = "") -> tuple[str, str]:
    """Return the content type and the text."""
    page = http_get(port, "/metrics", timeout=60, **({"Accept": accept} if accept else {}))
    assert page.status == 200
    return page.content_type, page.text


def values(port: int) -> dict[str, float]:
    """Return all samples, by what stands before the number."""
    lines = [line for line in scrape(port)[1].splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def value(port: int, name: str, /, **labels: str) -> float:
    """Return the sum of all samples with these labels."""
    wanted = {f'{label}="{text}"' for label, text in labels.items()}
    return sum(
        number
        for series, number in values(port).items()
        if series.partition("{")[0] == name and wanted <= set(re.split("[{},]", series))
    )


def handlers_of(server: TestServer) -> list[Prometheus]:
    return server.plugins(Prometheus)


def port_of(server: TestServer) -> int:
    held = handlers_of(server)[0]._endpoint
    assert held is not None
    assert held._claim is not None
    return held._claim.address.port


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain", parse_text),
        ("text/plain;version=0.0.4", "text/plain", parse_text),
        (OPENMETRICS, "application/openmetrics-text", parse_openmetrics),
        (PROMETHEUS, "text/plain", parse_text),
        ("application/openmetrics-text, text/*", "text/plain", parse_text),
    ],
)
def test_prometheus_can_read_it(accept, kind, parse) -> None:
    zone = f'odd"\\\n{accept}.'
    for number in range(8):  # enough for several slices
        Series((f"dns://:{number}", zone, "", "udp", "1", "A")).duration.observe(0.1)
    with serve(TEXT.format(zone=".")) as server:
        server.ask("a.example.org")
        content_type, text = scrape(port_of(server), accept)
    assert content_type.startswith(kind)
    families = {family.name: family for family in parse(text)}
    headers = Counter(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert set(headers.values()) == {1}
    assert text.count("# EOF") == (parse is parse_openmetrics)
    assert families["coredns_dns_requests"].type == "counter"
    assert families["coredns_dns_request_duration_seconds"].type == "histogram"
    assert families["coredns_build_info"].samples[0].labels == {
        "version": release.version(),
        "revision": release.commit(),
        "goversion": f"python{platform.python_version()}",
    }
    assert families["coredns_panics"].samples[0].value >= 0
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info"} <= set(families)
    buckets = [
        sample.value
        for sample in families["coredns_dns_request_duration_seconds"].samples
        if sample.name.endswith("_bucket")
        and (sample.labels["server"], sample.labels["zone"]) == ("dns://:7", zone)
    ]
    assert buckets == [0] * 9 + [1] * 8


def test_buckets_are_those_of_coredns() -> None:
    with serve(TEXT.format(zone="buckets.test")) as server:
        server.ask("buckets.test")
        bounds: dict[str, list[str]] = {}
        for series in values(port_of(server)):
            if 'zone="buckets.test."' in series and 'le="' in series:
                bound = series.partition('le="')[2].partition('"')[0]
                bounds.setdefault(series.partition("{")[0], []).append(bound)
    durations = sorted(map(float, bounds["coredns_dns_request_duration_seconds_bucket"]))
    sizes = sorted(map(float, bounds["coredns_dns_response_size_bytes_bucket"]))
    assert durations == [0.00025 * 2**n for n in range(16)] + [float("inf")]
    assert sizes == [
        *(0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3),
        float("inf"),
    ]


def test_numbers_are_those_of_go() -> None:
    """As labels they are part of a series, which is to be the same in CoreDNS."""
    with serve(TEXT.format(zone="numbers.test")) as server:
        server.ask("numbers.test")
        text = scrape(port_of(server), PROMETHEUS)[1]
        lines = [line for line in text.splitlines() if 'zone="numbers.test."' in line]
    bounds = [
        re.findall('le="([^"]*)"', line)[0] for line in lines if "response_size_bytes_b" in line
    ]
    assert bounds == (
        [
            "0",
            "100",
            "200",
            "300",
            "400",
            "511",
            "1023",
            "2047",
            "4095",
            "8291",
            "16000",
            "32000",
            "48000",
            "64000",
            "+Inf",
        ]
    )
    bounds = [re.findall('le="([^"]*)"', line)[0] for line in lines if "duration_seconds_b" in line]
    assert bounds == (
        [
            "0.00025",
            "0.0005",
            "0.001",
            "0.002",
            "0.004",
            "0.008",
            "0.016",
            "0.032",
            "0.064",
            "0.128",
            "0.256",
            "0.512",
            "1.024",
            "2.048",
            "4.096",
            "8.192",
            "+Inf",
        ]
    )
    assert [line for line in text.splitlines() if line.endswith(".0") and line[0] != "#"] == []
    number = r"-?(\d{1,6}(\.\d+)?|\d(\.\d+)?e[+-]\d\d+|[+-]Inf|NaN)"
    for line in text.splitlines():
        assert line[0] == "#" or re.fullmatch(number, line.rpartition(" ")[2]), line


def test_counters_never_go_backwards() -> None:
    text = TEXT.format(zone="steady.test")
    with serve(text) as server:
        port = port_of(server)
        last: dict[str, float] = {}
        for turn in range(20):
            server.ask(f"{turn % 7}.steady.test")
            if turn % 5 == 4:
                with pytest.raises(CorefileError):
                    server.reload(text.replace("whoami", "whom"))
            else:
                server.reload(text if turn % 2 else text + TEXT.format(zone="more.test"))
            now = values(port)
            for series, before in last.items():
                if series.partition("{")[0].endswith(("_total", "_count", "_bucket", "_sum")):
                    assert now[series] >= before, series
            last = now
        wait_until(
            lambda: value(port, "coredns_dns_requests_total", zone="steady.test.") == 20,
        )


def test_series_are_there_before_the_first_query() -> None:
    with serve(TEXT.format(zone="quiet.test")) as server:
        quiet = [line for line in scrape(port_of(server))[1].splitlines() if "quiet.test." in line]
    assert next(line for line in quiet if "do_requests_total" in line).endswith(" 0")
    assert len([line for line in quiet if "duration_seconds_bucket" in line]) == 17


def test_scrapes_go_on_over_reloads() -> None:
    text = TEXT.format(zone=".")
    with serve(text) as server:
        port = port_of(server)
        server.reload_under(lambda: scrape(port), text)
    with pytest.raises(ConnectionRefusedError):
        scrape(port)


def test_plugin_enabled() -> None:
    name = "coredns_plugin_enabled"
    text = "a.test b.test {\nbind 127.0.0.1\nerrors\nprometheus 127.0.0.1:0\ncache\nwhoami\n}\n"
    with serve(text) as server:
        port = port_of(server)
        for zone in ("a.test.", "b.test."):
            label = f"dns://127.0.0.1:{server.address[1]}"
            for plugin in ("errors", "prometheus", "cache", "whoami"):
                assert value(port, name, server=label, zone=zone, view="", name=plugin) == 1
            assert value(port, name, zone=zone) == 4
        server.reload(text.replace("cache\n", ""))
        assert value(port, name, zone="a.test.") == 3
        with pytest.raises(StartupError):
            server.reload(text + "c.test {\nhealth 192.0.2.1:1\nwhoami\n}")
        assert value(port, name, zone="a.test.") == 3
    assert not [
        labels
        for metric in metrics.registered()
        if metric.name == name
        for labels, _ in metric.children()
        if labels[1] == "a.test."
    ]


def test_blocks_share_an_address_or_have_their_own() -> None:
    text = TEXT.format(zone="one.test") + TEXT.format(zone="two.test")
    other = TEXT.format(zone="three.test").replace("127.0.0.1:0", "127.0.0.2:0")
    with serve(text + other) as server:
        endpoints = [handler._endpoint for handler in handlers_of(server)]
        claims = [held._claim for held in endpoints if held is not None]
        ports = {claim.address.host: claim.address.port for claim in claims if claim is not None}
        assert len(ports) == 2
        for zone in ("one", "two", "three"):
            server.ask(f"{zone}.test")
        port = ports["127.0.0.1"]
        for zone in ("one", "two", "three"):
            assert value(port, "coredns_dns_requests_total", zone=f"{zone}.test.") == 1


def test_an_address_that_is_taken_is_tried_again(monkeypatch, caplog) -> None:
    caplog.set_level("INFO", "corepy")
    monkeypatch.setattr(metrics_endpoint, "FIRST_PAUSE", 0.05)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        text = TEXT.format(zone=".").replace("127.0.0.1:0", f"127.0.0.1:{port}")
        with serve(text) as server:
            assert server.ask("example.org").header.rcode == 0
            assert f"cannot listen on tcp 127.0.0.1:{port}: another program" in caplog.text
            server.reload(text)
            busy.close()
            wait_until(lambda: "are now exported at" in caplog.text)
            assert "coredns_dns_requests_total" in scrape(port)[1]
        with serve(text), socket.socket() as probe:
            probe.settimeout(5)
            probe.connect(("127.0.0.1", port))


def test_a_server_can_stop_while_it_tries() -> None:
    with serve(TEXT.format(zone=".").replace("127.0.0.1:0", "192.0.2.1:9153")) as server:
        assert server.ask("example.org").header.rcode == 0


def test_two_processes_at_the_same_addresses() -> None:
    ports = {name: free_port() for name in ("dns", "metrics", "health", "ready")}
    text = (
        ".:{dns} {{\nbind 127.0.0.1\nprometheus 127.0.0.1:{metrics}\nhealth 127.0.0.1:{health}\n"
        "ready 127.0.0.1:{ready}\nwhoami\n}}\n"
    ).format(**ports)
    with run_command(text) as first:
        with run_command(text) as second:
            for _ in range(10):
                assert first.ask("example.org").header.rcode == 0
                assert "coredns_build_info" in scrape(ports["metrics"])[1]
            assert second.stop() == 0
        assert first.ask("example.org").header.rcode == 0
        assert "coredns_build_info" in scrape(ports["metrics"])[1]
        assert first.stop() == 0
        assert "retrying" not in first.output + second.output
    for port in ports.values():
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))


def test_runtime_metrics_stay_on() -> None:
    port, name = free_port(), "python_event_loop_lag_seconds_count"
    plain = f".:0 {{\nbind 127.0.0.1\nprometheus 127.0.0.1:{port}\nwhoami\n}}\n"
    full = plain.replace(f":{port}\n", f":{port} {{\nruntime_metrics\n}}\n")
    with run_command(plain) as command:
        assert "python_gc" not in scrape(port)[1]
        for text in (full, plain):
            command.conf.write_text(text)
            command.lines.clear()
            command.send_signal(10)
            command.wait_for("Reloading complete")
            seen = value(port, name)
            wait_until(lambda seen=seen: value(port, name) > seen)
            text = scrape(port, OPENMETRICS)[1]
            families = {family.name for family in parse_openmetrics(text)}
            assert {"python_gc_pause_seconds", "python_gc_collections"} <= families
        assert value(port, "python_gc_pause_seconds_count") >= 1


def test_the_client_library_is_imported_by_the_first_scrape() -> None:
    import subprocess
    import sys

    program = """if True:
        import sys
        from corepy.testing import serve
        with serve(". {\\nbind 127.0.0.1\\nprometheus 127.0.0.1:0\\nwhoami\\n}"):
            print("prometheus_client" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_scrapes_at_the_same_time_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of each scrape in every turn of the event loop would delay all queries."""
    turn, slices = 0, Counter[int]()
    real = exposition.with_go_numbers

    def with_go_numbers(text: bytes) -> bytes:
        slices[turn] += 1
        return real(text)

    monkeypatch.setattr(exposition, "with_go_numbers", with_go_numbers)

    async def read_all(response: HTTPResponse) -> int:
        assert not isinstance(response.body, bytes)
        return sum([len(piece) async for piece in response.body])

    async def run() -> list[int]:
        nonlocal turn
        endpoint = metrics_endpoint.MetricsEndpoint("", ProcessGroup(), LOG)
        request = HTTPRequest("GET", "/metrics", {})
        responses = await asyncio.gather(*(endpoint.answer(request) for _ in range(8)))
        reading = asyncio.gather(*map(read_all, responses))
        while not reading.done():
            turn += 1
            await asyncio.sleep(0)
        return await reading

    assert min(asyncio.run(run())) > 1000
    assert set(slices.values()) == {1}
