"""The figures of a real server: each query is counted once, at every transport and in every way."""

import asyncio
import contextlib
import socket
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.loading.registry import find
from corepy.plugin import Cacheability, CommandError, Handler, control_client, hookimpl
from corepy.plugin.control_client import ControlError, ask
from corepy.server.listen.chain_task import task_set_aside
from corepy.server.traffic import history
from corepy.server.traffic.history import COUNTERS, History, columns, merge_histories
from corepy.server.traffic.latency import BOUNDS, BUCKETS, bucket_of, percentile
from corepy.server.traffic.plugin_status import merge, merge_values, plain
from corepy.testing import inline, query, serve

COREFILE = """\
. {
    bind 127.0.0.1
    cache
    answers
}
example.net {
    bind 127.0.0.1
    answers
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


class Answers(Handler):
    """Answers by the first label of the name."""

    name = "answers"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        first = request.name.partition(".")[0]
        if first == "drop":
            return request.drop()
        if first == "wait":
            await asyncio.sleep(0)
        if first == "fail":
            raise ValueError("a bug")
        if first == "denied":
            return request.error(3)
        return request.reply()

    @hookimpl
    def status(self):
        return {"state": "answering", "by": {"kind": (1, float("nan"), self)}}


def plugins():
    def setup(controller):
        for _ in controller.single():
            controller.add_handler(Answers())

    return {**find(), "answers": inline("answers", setup, after=("cache",))}


@contextlib.contextmanager
def serving(folder, text=COREFILE):
    with serve(text, plugins=plugins(), control=True) as server:
        (path,) = folder.glob(control_client.PATTERN)
        yield server, lambda command="stats", argument=None: ask(path, command, argument)


def test_every_query_is_counted_once(folder, caplog):
    with serving(folder) as (server, get):
        for name in ("a.test", "a.test", "a.test", "wait.test", "denied.test", "fail.test"):
            server.ask(name, "A")
        server.ask("a.test", "A", tcp=True)
        server.ask("a.test", "A", tcp=True)
        server.ask("a.test", "A", tcp=True)
        server.exchange(query("class.test")[:-1] + b"\3")
        server.exchange(b"\0\1" + b"\x10\0" + bytes(8))  # STATUS, as in self-checks
        server.exchange(b"\0\1" + b"\x28\0" + bytes(8))  # UPDATE
        server.exchange(b"\0\1" + b"\0\0" + bytes(8))
        found = get()
        assert server.drops("drop.test")
        assert server.drops("drop.test", tcp=True)
        later = get()
    totals = found["totals"]
    assert totals["rcodes"] == {
        "NOERROR": 7, "NXDOMAIN": 1, "SERVFAIL": 1, "REFUSED": 1, "FORMERR": 1, "NOTIMP": 1
    }  # fmt: skip
    assert (totals["queries"], totals["unanswered"]) == (12, 0)
    assert later["totals"]["unanswered"] == 2
    assert totals["waited"] == 1
    assert sum(totals["latency"]) == totals["queries"] - 2  # refusals are not measured
    assert totals["packet_cache_hits"] == 3
    (process,) = found["processes"]
    assert (process["queries"], process["leader"]) == (12, True)
    assert process["memory_bytes"] > 1_000_000


def test_the_tables_show_who_asks_for_which_names(folder):
    with serving(folder) as (server, get):
        for number in range(4):
            for name in ("a.one.test", "a.one.test", "B.two.test", "denied.a~b.test"):
                server.ask(name, "A", tcp=number == 3)
        server.ask("fail.test")
        found = get(argument={"top": 3})["top"]
    assert found["clients"] == [
        {"client": "127.0.0.1", "count": 17, "error": 0, "margin": 0,
         "per_second": pytest.approx(17 / max(1, found["seconds"]))}
    ]  # fmt: skip
    counts = {
        table: [(row["name"], row["count"]) for row in found[table]]
        for table in ("names", "suffixes", "nxdomain", "servfail")
    }
    assert counts == {
        "names": [("a.one.test.", 8), ("b.two.test.", 4), ("denied.a~b.test.", 4)],
        "suffixes": [("one.test.", 8), ("a~b.test.", 4), ("two.test.", 4)],
        "nxdomain": [("denied.a~b.test.", 4)],
        "servfail": [("fail.test.", 1)],
    }
    assert (found["queries"], found["sampled"]) == (17, 17)
    assert found["bounds"]["names"] == 1
    assert found["bounds"]["clients"] == 0


def test_a_batch_that_is_sampled(folder):
    """Of each batch of the packet cache, only the selected queries are looked at."""
    with serving(folder) as (server, get):
        wire = query("a.test")
        for _ in range(3):
            server.exchange(wire)
        sampler = server.server.traffic.repeated

        def burst():
            sampler.left = sampler.weight = 10
            sampler.step = 1
            with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
                for ident in range(40):
                    client.sendto(struct.pack("!H", ident) + wire[2:], server.address)
                (listener,) = [
                    it for each in server.server.endpoints.values() for it in each.listeners
                    if it.network == "udp"
                ]  # fmt: skip
                selected = sampler.selected
                with task_set_aside():
                    listener._on_readable()
                return sampler.selected - selected

        assert server.call(burst) == 31
        found = get()
    assert found["totals"]["queries"] == 43
    assert found["top"]["names"][0]["count"] == 43
    assert found["top"]["sampled"] == 34
    assert found["top"]["names"][0]["margin"] > 0


def test_the_status_of_plugins(folder):
    with serving(folder) as (server, get):
        server.ask("a.test")
        found = get()["plugins"]
        status = get("status")
    named = [(it["plugin"], it["block"], it["zones"]) for it in found]
    assert named == [
        ("cache", "Corefile:1", ["."]),
        ("answers", "Corefile:1", ["."]),
        ("answers", "Corefile:6", ["example.net."]),
    ]
    cache, answers, _ = (it["status"] for it in found)
    assert (cache["cache"]["entries"], cache["cache"]["misses"]) == (1, 1)
    kind = answers["by"]["kind"]
    assert (answers["state"], kind[:2]) == ("answering", [1, None])
    assert "Answers" in kind[2]
    assert status["plugins"] == found
    blocks = [(it["place"], it["chain"], it["packet_cache"]) for it in status["blocks"]]
    assert blocks == [
        ("Corefile:1", ["cache", "answers"], {"on": True, "reason": None}),
        ("Corefile:6", ["answers"], {"on": False, "reason": "nothing is cached"}),
    ]
    assert [it["beside"] for it in status["blocks"]] == [["bind"]] * 2
    assert (status["ready"], status["problems"], status["reload"]) == (True, [], None)


@pytest.mark.parametrize(
    "argument", [[], {"tops": 1}, {"top": 101}, {"top": -1}, {"top": True}, {"history": 1}]
)
def test_arguments_that_are_refused(folder, argument):
    with serving(folder) as (_, get), pytest.raises(ControlError, match="stats"):
        get(argument=argument)


class Broken(Answers):
    @hookimpl
    def status(self):
        raise SystemExit("broken")

    @hookimpl
    def ready(self):
        raise ValueError("unknown")


def test_plugins_that_fail_are_problems(folder, caplog):
    def setup(controller):
        for _ in controller.single():
            controller.add_handler(Broken())

    text = ".:0 {\n    bind 127.0.0.1\n    broken\n}\n"
    with serve(text, plugins={"broken": inline("broken", setup), **find()}, control=True):
        (path,) = folder.glob(control_client.PATTERN)
        status = ask(path, "status")
    assert status["problems"] == [
        "not ready: broken",
        "broken: status failed: SystemExit: broken",
    ]
    assert status["not_ready"] == ["broken"]
    assert "status failed" in caplog.text


class Asks:
    """A plugin that runs commands of the server."""

    @hookimpl
    def serving(self, context):
        self.context = context


def test_a_plugin_runs_commands(folder):
    def setup(controller):
        for _ in controller.single():
            controller.register(Asks())

    text = COREFILE.replace("cache", "asks", 1)
    with serve(text, plugins={"asks": inline("asks", setup), **plugins()}) as server:
        server.ask("a.test")
        (plugin,) = server.plugins(Asks)

        def run(command, argument):
            work = plugin.context.run_command(command, argument)
            return asyncio.run_coroutine_threadsafe(work, server._loop).result(60)

        assert run("stats", {"top": 0})["totals"]["queries"] == 1
        assert run("explain", {"name": "a.test"})["reply"]["rcode"] == "NOERROR"
        with pytest.raises(CommandError, match="unknown"):
            run("unknown", None)


# -- latencies and history


def test_percentiles():
    counts = [0] * BUCKETS
    assert percentile(counts, 0.5) is None
    counts[bucket_of(0.001)] = 99
    counts[bucket_of(1.0)] = 1
    assert 0.0007 < percentile(counts, 0.5) < 0.0011
    assert percentile(counts, 0.99) <= BOUNDS[bucket_of(0.001)] * 1.0001
    assert 0.7 < percentile(counts, 1.0) < 1.5
    assert percentile([0] * (BUCKETS - 1) + [5], 0.5) == BOUNDS[-1]
    assert bucket_of(1000) == BUCKETS - 1


def totals(queries, latencies=0):
    counters = [0] * len(COUNTERS)
    counters[0] = queries
    return [*counters, latencies, *[0] * (BUCKETS - 1)]


def test_the_history_has_the_increases_of_an_hour():
    ring = History()
    for number in range(1, history.RECORDS + 11):
        ring.record(totals(number * number), 1000.0 + 10 * number)
    report = ring.report()
    assert len(report.records) == history.RECORDS
    assert [record[0] for record in report.records[-2:]] == [737, 739]
    assert report.end == 1000 + 10 * (history.RECORDS + 10)
    assert len(ring.report(3).records) == 3
    assert ring.since_last(totals(370 * 370 + 5))[0] == 5


def test_histories_of_processes_are_added_up_by_their_times():
    first, late, short = History(), History(), History()
    for number in range(1, 5):
        first.record(totals(number, number), 100.0 + 10 * number)
        if number < 4:
            late.record(totals(10 * number), 100.2 + 10 * number)
    short.record(totals(100), 140.1)
    merged = merge_histories([it.report() for it in (first, late, short)])
    found = columns(merged)
    assert found["queries"] == [11, 11, 11, 101]
    assert (found["end"], found["interval"]) == (140.0, 10)
    assert found["p50"] == [pytest.approx(BOUNDS[0] / 2)] * 4


def test_a_tick_records_the_history(folder):
    with serving(folder) as (server, get):
        for _ in range(3):
            server.ask("a.test", edns=None)
        server.call(server.server.traffic._tick)
        server.ask("denied.test")
        found = get(argument={"history": True})
    assert found["history"]["queries"] == [3]
    assert found["history"]["packet_cache_hits"] == [found["totals"]["packet_cache_hits"]]
    recent = found["recent"]
    assert round(recent["queries_per_second"] * recent["seconds"]) == 4
    assert round(recent["nxdomain_per_second"] * recent["seconds"]) == 1


# -- merging the status of processes


@pytest.mark.parametrize(
    ("key", "values", "merged"),
    [
        ("entries", [1, 2], 3),
        ("rtt", [0.1, None, 0.3], 0.2),
        ("state", ["up", "down", "suspect"], "down"),
        ("state", ["in place", "degraded"], "in place"),
        ("on", [True, False], True),
        ("x", [None, None], None),
        ("problems", [["a", "b"], ["b", "c"]], ["a", "b", "c"]),
        (
            "upstreams",
            [[{"address": "x", "queries": 1, "state": "up"}], [{"address": "y"}],
             [{"address": "x", "queries": 2, "state": "down"}]],
            [{"address": "x", "queries": 3, "state": "down"}, {"address": "y"}],
        ),
        ("cache", [{"hits": 1}, {"hits": 2, "other": "z"}], {"hits": 3, "other": "z"}),
    ],
)  # fmt: skip
def test_values_of_processes(key, values, merged):
    assert merge_values(key, values) == pytest.approx(merged) if key == "rtt" else True
    assert key == "rtt" or merge_values(key, values) == merged


def test_plugins_of_processes_are_matched_in_order():
    def of(plugin, number):
        return {"plugin": plugin, "block": "b", "zones": [], "status": {"number": number}}

    leader = [of("once", 1), of("two", 2), of("two", 3)]
    found = merge([leader, [of("two", 10), of("two", 20)]])
    assert [(it["plugin"], it["status"]["number"]) for it in found] == [
        ("once", 1), ("two", 12), ("two", 23),
    ]  # fmt: skip


def test_values_that_json_cannot_represent():
    value: dict[str, Any] = {}
    deep = value
    for _ in range(20):
        deep["x"] = {}
        deep = deep["x"]
    assert isinstance(plain(value)["x"]["x"], dict)
    assert plain(SimpleNamespace()) == "namespace()"
    assert plain([b"x", float("inf"), {1: None}]) == ["b'x'", None, {"1": None}]


def test_a_query_that_cannot_be_shown_is_answered(folder, caplog):
    with serving(folder) as (server, _):
        server.server.traffic.top.window = None
        assert server.ask("wait.test").header.rcode == 0
        for _ in range(3):
            assert server.ask("a.test").header.rcode == 0
        server.call(server.server.report_hits)
        assert server.server.traffic.totals()[0] == 4
    assert "a query could not be shown" in caplog.text
