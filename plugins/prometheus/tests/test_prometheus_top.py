"""The option `top`: a bounded number of time series, which come and go with their items."""

import asyncio
from unittest.mock import Mock

from corepy.plugin import CommandError
from corepy.testing import serve
from corepy.testing.failing_once import FailsOnce
from corepy_prometheus import top
from corepy_prometheus.handler import Prometheus
from corepy_prometheus.top import TABLES, TOP_QUERIES, TopSeries

TEXT = """\
. {{
    bind 127.0.0.1
    prometheus 127.0.0.1:0{options}
    template IN A {{
        rcode NXDOMAIN
    }}
}}
"""


def shown():
    return {labels: child.value for labels, child in TOP_QUERIES.children()}


def tables(**items):
    """Make the result of the command `stats` with these names, or clients, and rates."""
    return {"top": {
        table: [{key: item, "per_second": rate} for item, rate in items.get(table, {}).items()]
        for table, key in TABLES.items()
    }}  # fmt: skip


def test_series_end_with_their_items(caplog):
    async def work():
        found = [tables(clients={"10.0.0.1": 2.0}, names={"a.": 1.0, "b.": 0.5})]
        asked = []

        async def run_command(name, argument):
            asked.append((name, argument))
            if not found:
                raise CommandError("busy")
            return found[0]

        one = TopSeries(2, run_command)
        await asyncio.sleep(0)
        first = shown()
        other = TopSeries(1, run_command)
        await asyncio.sleep(0)
        found[0] = tables(names={"b.": 0.25})
        await one.update()
        second = shown()
        await other.stop()
        third = shown()
        found.clear()
        failed = TopSeries(1, run_command)
        await asyncio.sleep(0)
        await failed.stop()
        await one.stop()
        return first, second, third, asked

    first, second, third, asked = asyncio.run(work())
    assert first == {("clients", "10.0.0.1"): 2.0, ("names", "a."): 1.0, ("names", "b."): 0.5}
    assert second == {**first, ("names", "b."): 0.25}  # the other one shows them still
    assert third == {("names", "b."): 0.25}
    assert shown() == {}
    assert asked[:2] == [("stats", {"top": 2}), ("stats", {"top": 1})]
    assert "the top queries are unknown: busy" in caplog.text


def test_a_server_exports_them_until_a_reload_without(monkeypatch):
    monkeypatch.setattr(top, "INTERVAL", 3600)
    with serve(TEXT.format(options=" {\n        top 2\n    }")) as server:
        for name in ("a.one.test", "b.one.test", "a.one.test", "c.one.test"):
            server.ask(name)
        (handler,) = server.plugins(Prometheus)
        asyncio.run_coroutine_threadsafe(handler._top_series.update(), server._loop).result(60)
        found = shown()
        server.reload(TEXT.format(options=""))
        left = shown()
    assert {labels for labels in found if labels[0] != "names"} == {
        ("clients", "127.0.0.1"),
        ("suffixes", "one.test."),
        ("nxdomain", "a.one.test."),
        ("nxdomain", "b.one.test."),
    }
    assert found["names", "a.one.test."] == 2 * found["names", "b.one.test."]
    assert len(found) == 6
    assert left == {}


def test_an_update_that_fails_is_not_the_last_one(monkeypatch):
    monkeypatch.setattr("corepy_prometheus.top.INTERVAL", 0)

    async def main():
        update = FailsOnce()
        monkeypatch.setattr(TopSeries, "update", update)
        series = TopSeries(2, Mock())
        await update.repeated()
        await series.stop()

    asyncio.run(main())
