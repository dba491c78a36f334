"""What the benchmark reads, computes and prints; no server is started, nothing is timed."""

import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import connections, load, procfs, report
from benchmarks.cases import CASES, Case
from benchmarks.machine import cpu_model
from benchmarks.results import (
    CaseResult,
    Footprint,
    Latency,
    Results,
    Round,
    Track,
    latency,
    percentile,
    spread,
)
from benchmarks.runner import latency_rates
from benchmarks.servers import (
    COMPILED,
    COREDNS,
    CoreDns,
    Corepy,
    Dnsdist,
    Dnsmasq,
    Knot,
    NodeCache,
    Nsd,
    Setting,
    Unbound,
    all_servers,
    corefile,
    describe_version,
    is_optimized_build,
    parse_version,
)
from benchmarks.upstream import (
    WILDCARD,
    ZONE,
    cached_name,
    expected_address,
    hot_address,
    hot_name,
    new_name,
    zone_text,
)
from corepy.testing.certificates import Files

DNSPERF = """\
DNS Performance Testing Tool
> NOERROR service-1.bench.example A 0.000160
> T service-2.bench.example A
> SERVFAIL service-3.bench.example A 0.000040
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         1000
  Queries completed:    990 (99.00%)
  Queries lost:         10 (1.00%)

  Response codes:       NOERROR 980 (98.99%), SERVFAIL 10 (1.01%)
  Average packet size:  request 34, response 50
  Run time (s):         2.000000
  Queries per second:   495.000000

  Average Latency (s):  0.001449 (min 0.000012, max 0.010462)
  Latency StdDev (s):   0.002109
"""
CONNECTIONS = """
Connection Statistics:

  Reconnections:        0

  Average Latency (s):  0.500000 (min 0.000614, max 0.001778)
"""


def one_round(cpu_seconds, completed=1000, **changes):
    counts = {"sent": completed, "completed": completed, "lost": 0, "failed": 0} | changes
    return Round(**counts, seconds=0.5, cpu_seconds=cpu_seconds, mean_latency=0.001)


def case_result(case, **cpu_us):
    tracks = {
        name.replace("_", "-"): Track([one_round(value / 1000) for value in values], pss_kib=2048)
        for name, values in cpu_us.items()
    }
    return CaseResult(case, tracks)


@pytest.mark.parametrize("text", [DNSPERF, DNSPERF + CONNECTIONS])
def test_dnsperf_report(text):
    outcome = load.parse(text)
    assert (outcome.sent, outcome.completed, outcome.lost, outcome.failed) == (1000, 990, 10, 10)
    assert (outcome.seconds, outcome.mean_latency) == (2.0, 0.001449)
    assert outcome.latencies == [0.000160, 0.000040]


@pytest.mark.parametrize("text", ["", "no such file", DNSPERF.replace("Queries lost", "gone")])
def test_dnsperf_without_report(text):
    with pytest.raises(load.LoadError):
        load.parse(text)


def test_the_right_rcode_of_a_case():
    assert load.parse(DNSPERF, "SERVFAIL").failed == 980


def test_runs_side_by_side_add_up():
    one = load.Outcome(10, 10, 0, 1, 1.0, 0.1, [0.1])
    other = load.Outcome(40, 30, 10, 0, 2.0, 0.2, [0.2])
    both = load.combine([one, other])
    assert (both.sent, both.completed, both.lost, both.failed) == (50, 40, 10, 1)
    assert (both.seconds, both.latencies) == (2.0, [0.1, 0.2])
    assert both.mean_latency == pytest.approx(0.175)


def test_stat_of_a_process_with_an_odd_name():
    reaped = [str(ticks) for ticks in (150, 50)]
    fields = ["S", "41", *["0"] * 11, *reaped, "20"]
    assert procfs.parse_stat(f"42 (a) b (c)) {' '.join(fields)}") == (41, pytest.approx(2.0))


def test_pss():
    assert procfs.parse_pss("0-1 ---p 0 0:0 0 [rollup]\nRss: 9 kB\nPss:   1234 kB\n") == 1234
    assert procfs.parse_pss("") == 0


def test_cpu_time_and_memory_of_a_tree():
    work = "sum(range(3_000_000))"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    code = f"{inner}; print('done', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"done\n"
        reaped = procfs.tree(process.pid)[process.pid]
        assert procfs.cpu_seconds(process.pid) > reaped > 0
        assert procfs.pss_kib(process.pid) > 1000
        process.stdin.close()
    assert procfs.tree(process.pid) == {}


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (99, 99), (99.9, 100), (100, 100), (0, 1)]
)
def test_percentile(percent, expected):
    assert percentile(range(1, 101), percent) == expected


def test_no_values_are_refused():
    for function in (lambda: percentile([], 99), lambda: spread([]), lambda: latency(1, [], 3)):
        with pytest.raises(ValueError, match="no values"):
            function()


def test_latency_sorts():
    middle: Any = pytest.approx(0.2)
    assert latency(10, [0.3, 0.1, 0.2], 4) == Latency(10, middle, 0.3, 0.3, 4)


def test_ratios_are_taken_round_by_round():
    result = case_result(CASES[0], corepy=[5, 50, 6], unbound=[5, 40, 4])
    assert result.ratio("corepy", "unbound") == pytest.approx((1.0, 1.25, 1.5))
    assert result.ratio("corepy", "dnsmasq") is None


def test_shares_count_all_rounds():
    track = Track([one_round(1, sent=200, lost=1), one_round(1, sent=200, lost=3, failed=2)])
    assert (track.lost_share(), track.failed_share()) == (0.01, 0.005)


def test_latency_rates_follow_the_reference():
    highest = {"unbound": 100_000.0, "corepy": 90_000.0, "node-cache": 40_000.0}
    expected = {"unbound": 50_000, "corepy": 50_000, "node-cache": 20_000}
    assert latency_rates(highest) == expected


def test_goals_are_shown_with_their_outcome():
    case = Case("x", "a case", goals={"unbound": 1.05, "coredns": 0.18})
    result = case_result(case, corepy=[6], corepy_compiled=[5], unbound=[5], coredns=[20])
    assert report.ratio_table([result], "corepy-compiled").splitlines()[::2] == [
        "| case | corepy | unbound | coredns |",
        "| a case | 0.83 (0.83 to 0.83) | 1.00 (1.00 to 1.00), goal 1.05 reached"
        " | 0.25 (0.25 to 0.25), goal 0.18 **missed** |",
    ]


def test_the_pure_form_has_no_goals():
    case = Case("x", "a case", goals={"unbound": 1.05})
    result = case_result(case, corepy=[6], corepy_compiled=[5], unbound=[5])
    table = report.ratio_table([result], "corepy")
    assert table.splitlines()[::2] == ["| case | unbound |", "| a case | 1.20 (1.20 to 1.20) |"]


def test_each_form_of_a_run_has_a_table():
    titles = [
        f"### CPU time per query, that of {form} divided by the other's"
        for form in ("corepy-compiled", "corepy")
    ]
    both = report.tables(Results([case_result(CASES[0], corepy=[6], corepy_compiled=[5])]))
    pure = report.tables(Results([case_result(CASES[0], corepy=[6])]))
    assert [title in both for title in titles] == [True, True]
    assert [title in pure for title in titles] == [False, True]


def test_tables_leave_a_gap_for_what_a_server_lacks():
    full = case_result(Case("x", "one"), corepy=[5], dnsmasq=[6])
    part = case_result(Case("y", "two"), corepy=[7])
    part.unfit["dnsmasq"] = "cannot"
    footprints = {"corepy": Footprint((0.3, 0.1, 0.2), 1024, 2048)}
    text = report.tables(Results([full, part], footprints))
    assert "| two | 7.0 (7.0 to 7.0) | - |" in text
    assert "dnsmasq: cannot." in text
    assert "| corepy | 200.0 ms | 1.0 MiB | 2.0 MiB |" in text
    widths = {line.count("|") for line in report.cpu_table([full, part]).splitlines()}
    assert widths == {4}


def test_page_is_changed_between_markers_only(tmp_path):
    page = tmp_path / "page.md"
    begin = "<!-- begin of tables: written by python -m benchmarks -->"
    end = "<!-- end of tables: written by python -m benchmarks -->"
    page.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
    for _ in range(2):  # writing again changes nothing
        report.write_page(page, {"tables": "new"})
        assert page.read_text() == f"above\n{begin}\n\nnew\n\n{end}\nbelow\n"
    with pytest.raises(report.MarkerError):
        report.write_page(page, {"plots": "new"})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Dnsmasq version 2.90  Copyright", "2.90"),
        ("corepy-0.1.0\nlinux/x86_64, CPython 3.11.7", "0.1.0"),
        ("Version 1.17.1\n\nConfigure line: --build", "1.17.1"),
        ("nothing", "?"),
    ],
)
def test_version(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "is_optimized", "description"),
    [
        (
            "corepy-0.1.0\nlinux/x86_64, CPython 3.11.7, compiled, 0123456\n",
            False,
            "0.1.0 (compiled, CPython 3.11.7 without PGO)",
        ),
        (
            "corepy-0.1.0\nlinux/x86_64, CPython 3.14.0rc1, pure, unknown\n",
            True,
            "0.1.0 (pure, CPython 3.14.0rc1 with PGO)",
        ),
        ("nothing", True, "? (?, ? with PGO)"),
    ],
)
def test_version_of_corepy(text, is_optimized, description):
    assert describe_version(text, is_optimized) == description


def test_both_forms_are_measured_if_there_is_a_compiled_one(monkeypatch):
    monkeypatch.delenv(COMPILED, raising=False)
    assert [it.name for it in all_servers()][:2] == ["corepy", "unbound"]
    monkeypatch.setenv(COMPILED, "/compiled/python")
    servers = all_servers()
    assert [it.name for it in servers][:3] == ["corepy", "corepy-compiled", "unbound"]
    assert [it.program for it in servers][:2] == [sys.executable, "/compiled/python"]


@pytest.mark.parametrize("variable", [COREDNS, ""], ids=["named", "in the PATH"])
def test_coredns_is_measured_if_there_is_one(monkeypatch, tmp_path, variable):
    binary = tmp_path / "coredns"
    binary.write_text("#!/bin/sh\necho CoreDNS-1.14.7\necho linux/amd64, go1.27.3, 4b26cced\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv(COREDNS, raising=False)
    assert "coredns" not in {it.name for it in all_servers()}
    monkeypatch.setenv(*((variable, str(binary)) if variable else ("PATH", str(tmp_path))))
    (found,) = (it for it in all_servers() if it.name == "coredns")
    assert found.version() == "1.14.7 (go1.27.3)"


@pytest.mark.parametrize(
    ("text", "machine", "expected"),
    [
        ("'--enable-shared' '--enable-optimizations' posix_prefix venv", "x86_64", True),
        ("'--enable-shared' deb_system posix_prefix venv", "x86_64", True),
        ("'--enable-shared' deb_system posix_prefix venv", "riscv64", False),
        ("'--enable-shared' posix_prefix venv", "x86_64", False),
    ],
)
def test_which_interpreters_are_optimized(text, machine, expected):
    assert is_optimized_build(text, machine) is expected


def test_a_connection_for_each_query(tmp_path):
    """The third is refused by the server, which closes the connection; the fourth fails."""
    questions = load.write_questions(
        tmp_path / "questions", ["a.test", "b.test", "c.test", "d.test"]
    )
    queries = connections.messages(questions)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for number in range(4):
                with server.accept()[0] as connection:
                    query = connection.recv(512)
                    assert query == queries[number]
                    if number != 2:
                        connection.sendall(query[:4] + bytes([0x80, 2 * (number == 3)]) + query[6:])

        thread = threading.Thread(target=serve)
        thread.start()
        latencies, failed = connections.ask(server.getsockname(), queries)
        thread.join()
    assert (len(latencies), failed) == (3, 1)


def test_the_command_for_short_connections():
    short = load.Load(("127.0.0.1",), 53, Path("q"), core=1, seconds=2, short=True, rate=50)
    program = ["taskset", "-c", "1", sys.executable, "-m", "benchmarks.connections"]
    words = ["127.0.0.1", "53", "2", "q", "50"]
    assert load.command(short, "127.0.0.1") == [*program, "tcp", *words]
    encrypted = replace(short, tls=True)
    assert load.command(encrypted, "127.0.0.1") == [*program, "tls", *words]
    https = replace(encrypted, short=False, https=True)
    assert load.command(https, "127.0.0.1") == [*program[:-1], "benchmarks.https_load", *words]


@pytest.mark.parametrize(
    "server", [Unbound(), Dnsdist(), Corepy(), CoreDns("/bin/coredns")], ids=lambda it: it.name
)
def test_configurations_name_the_certificate(server, tmp_path):
    files = Files(Path("/tls/server.pem"), Path("/tls/server.key"), Path("/tls/ca.pem"))
    setting = Setting(1053, 2053, tls_port=8530, certificate=files)
    launch = server.configure(setting, tmp_path)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    text = " ".join([*launch.command, *written])
    assert all(word in text for word in ("1053", "8530", "/tls/server.pem", "/tls/server.key"))
    assert server.unfit(setting) is None
    assert Dnsmasq().unfit(setting) == "has no DNS over TLS"
    https = server.configure(replace(setting, https=True), tmp_path)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    text = " ".join([*https.command, *written])
    assert any(word in text for word in ("https://", "https-port", "addDOHLocal"))


def test_processor():
    assert cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n") == "A CPU @ 2 GHz"


def test_corefile_has_what_the_case_asks_for():
    setting = Setting(1053, 2053, ("127.0.0.1", "127.0.0.2"), log=True, upstream_tcp=True)
    lines = [line.strip() for line in corefile(setting, metrics=False).splitlines()]
    assert lines[:4] == [".:1053 {", "bind 127.0.0.1 127.0.0.2", "errors", "log"]
    assert "force_tcp" in lines
    assert lines.count("}") == sum(line.endswith("{") for line in lines)


@pytest.mark.parametrize(
    "server",
    [Unbound(), Dnsmasq(), Dnsdist(), CoreDns("/bin/coredns"), NodeCache("/bin/node-cache")],
)
def test_configurations_name_every_address_and_the_upstream(server, tmp_path):
    launch = server.configure(Setting(1053, 2053, ("127.0.0.1", "127.0.0.2")), tmp_path)
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    text = " ".join([*launch.command, *files])
    assert all(word in text for word in ("127.0.0.1", "127.0.0.2", "1053", "2053"))


@pytest.mark.parametrize("server", [Knot(), Nsd(), Corepy(), CoreDns("/bin/coredns")])
def test_configurations_of_a_zone_forward_nothing(server, tmp_path):
    zone = Path("/zones/large")
    launch = server.configure(Setting(1053, 2053, ("127.0.0.1", "127.0.0.2"), zone=zone), tmp_path)
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    text = " ".join([*launch.command, *files])
    assert all(word in text for word in ("127.0.0.1", "127.0.0.2", "1053", ZONE, str(zone)))
    assert "2053" not in text


def test_each_kind_of_server_has_its_cases():
    forwarding, zone = Setting(1, 2), Setting(1, 2, zone=Path("zone"))
    servers = [Corepy(), Unbound(), Knot()]
    assert [one.takes_part(forwarding) for one in servers] == [True, True, False]
    assert [one.takes_part(zone) for one in servers] == [True, False, True]


@pytest.mark.parametrize(
    ("plugins", "is_fit"), [("bind\nfile\n", True), ("  dns.file\n", True), ("profile\n", False)]
)
def test_coredns_needs_the_plugin_file_for_a_zone(tmp_path, plugins, is_fit):
    (tmp_path / "plugins").write_text(plugins)
    binary = tmp_path / "coredns"
    binary.write_text(f"#!/bin/sh\ncat {tmp_path}/plugins\n")
    binary.chmod(0o755)
    server = CoreDns(str(binary))
    assert (server.unfit(Setting(1, 2, zone=Path("zone"))) is None) is is_fit
    assert server.unfit(Setting(1, 2)) is None


@pytest.mark.parametrize(
    ("log", "remark"),
    [
        ("[INFO] dns://127.0.0.1:53: packet cache on\n" * 2, "packet cache on"),
        ("[INFO] dns://:53: packet cache off: acl\n", "packet cache off: acl"),
        ("nothing of it\n", "packet cache unknown"),
    ],
)
def test_packet_cache_is_told(log, remark):
    assert Corepy().remark(log) == remark
    result = case_result(CASES[0], corepy=[5])
    result.remarks["corepy"] = remark
    assert f"corepy: {remark}." in report.tables(Results([result]))


def test_what_servers_lack():
    assert Dnsmasq().unfit(Setting(1, 2, upstream_tcp=True))
    assert Dnsdist().unfit(Setting(1, 2, packet_cache=False))
    assert Unbound().unfit(Setting(1, 2, upstream_tcp=True, packet_cache=False)) is None


def test_names_and_the_addresses_they_have():
    assert expected_address(hot_name(99)) == hot_address(99) != hot_address(98)
    assert expected_address(new_name(1, 2)) == WILDCARD


def test_the_large_zone_has_no_wildcard():
    assert f"* A {WILDCARD}" in zone_text().splitlines()
    lines = zone_text([f"{cached_name(7)}."]).splitlines()
    assert f"cached-7.{ZONE}. A {WILDCARD}" in lines
    assert f"{hot_name(0)}. A {hot_address(0)}" in lines
    assert not any(line.startswith("*") for line in lines)
