"""`corepy status`: servers as they are, in text and JSON, with an exit code for scripts."""

import asyncio
import hashlib
import json
import os
import re
import signal
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from corepy.commands import figures_text
from corepy.commands.show_status import main
from corepy.commands.status_text import plugin_lines, render
from corepy.net.inherited import Manager
from corepy.plugin import StartupError, control_client
from corepy.plugin.control_client import ask
from corepy.server.process import reload
from corepy.server.traffic import server_status
from corepy.server.traffic.reloads import Reloads
from corepy.testing import run_command, serve
from corepy.testing.command import wait_until

COREFILE = """\
. {
    bind 127.0.0.1
    cache
    forward . 127.0.0.1:9
}
example.org {
    bind 127.0.0.1
    template IN A {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


def test_a_server_that_is_well(capsys):
    with serve(COREFILE, control=True) as server:
        port = server.address[1]
        for _ in range(2):
            server.ask("a.example.org")
        assert main([]) == 0
        text = capsys.readouterr().out
        assert main(["-json"]) == 0
        (status,) = json.loads(capsys.readouterr().out)
        assert main(["-json", "-pid", str(os.getpid())]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 1
        assert main(["-pid", "1"]) == 1
        problem = f"no server has the process ID 1; there is {os.getpid()}"
        assert capsys.readouterr().err == f"corepy status: {problem}\n"
    shown = [line.rstrip() for line in text.splitlines()]
    assert re.match(r"server         corepy \S+ \((pure|compiled), commit ", shown[0])
    assert re.match(r" +process \d+, up \d+ s, ready$", shown[1])
    assert "configuration  Corefile" in shown
    assert "last reload    none" in shown
    assert re.search(r"queries        2, now [\d.]+/s, p50 .*, p99 ", text)
    assert f"listening      dns://127.0.0.1:{port} udp: 0 waiting" in shown
    assert f"               dns://127.0.0.1:{port} tcp: 0 connections, 0 waiting" in shown
    assert "block          . (Corefile:1)" in shown
    assert "               cache > forward" in shown
    assert "               packet cache off (nothing is cached)" in shown
    assert "forward        .: 127.0.0.1:9 udp up, RTT -, 0 queries, 0 failed" in text
    assert not [line for line in shown if line.startswith("problem")]
    assert max(map(len, shown)) <= 100
    assert status["server"]["pid"] == status["processes"][0]["pid"]
    assert status["totals"]["rcodes"] == {"NOERROR": 2}


def test_without_a_server(capsys):
    assert main([]) == 1
    assert capsys.readouterr() == (
        "",
        "corepy status: no server runs here, or this user may not use its control socket\n",
    )


def test_a_server_with_problems_and_several_processes(folder, capsys):
    text = COREFILE.replace("cache", "multisocket 2\n    cache", 1)
    with run_command(text, env={"RUNTIME_DIRECTORY": str(folder)}) as command:
        (path,) = folder.glob(control_client.PATTERN)
        for _ in range(8):  # each process gets some of them
            command.ask("a.example.org", tcp=True)
        found = ask(path, "stats", {"history": True})
        assert [it["leader"] for it in found["processes"]] == [True, False]
        assert sum(it["queries"] for it in found["processes"]) == 8
        assert found["totals"]["queries"] == 8
        assert found["top"]["names"][0]["count"] == 8
        assert len(found["listeners"]) == 2
        (forward,) = [it for it in found["plugins"] if it["plugin"] == "forward"]
        assert [it["address"] for it in forward["status"]["upstreams"]] == ["127.0.0.1:9"]
        opened = ask(path, "tail", {"filter": {}})
        for _ in range(8):
            command.ask("b.example.org", tcp=True)
        events = ask(path, "tail", {**opened, "wait": 0})["events"]
        assert len(events) == 8
        assert {it["pid"] for it in events} <= {it["pid"] for it in found["processes"]}
        loaded = ask(path, "status")["configuration"]
        assert loaded["file"] == str(command.conf)
        assert loaded["sha256"] == hashlib.sha256(command.conf.read_bytes()).hexdigest()
        assert loaded["changed"] is False
        command.conf.write_text("wrong {\n    whoamy\n}\n")
        command.send_signal(signal.SIGUSR1)
        wait_until(lambda: ask(path, "status")["reload"] is not None)
        assert main([]) == 3
        shown = capsys.readouterr().out
        status = ask(path, "status")
    assert (status["reload"]["count"], status["reload"]["failed"]) == (1, 1)
    assert "whoamy" in status["reload"]["error"]
    assert status["configuration"]["changed"] is True
    assert status["configuration"]["sha256"] == loaded["sha256"]
    assert any("the last reload failed" in problem for problem in status["problems"])
    assert "SIGUSR1: failed (1 reload, 1 failed)" in shown
    assert "changed on disk since" in shown
    assert re.search(r"process        \d+, leads: \d+ queries", shown)
    assert "problem        the last reload failed" in shown


def test_the_last_reload():
    reloads = Reloads()
    reloads.record("SIGUSR1", "broken")
    reloads.record("SIGUSR1", None)
    assert (reloads.count, reloads.failed, reloads.error) == (2, 1, None)


def test_a_reload_that_is_cancelled_has_failed():
    class Stuck:
        reloads = Reloads()

        async def run(self, _):
            await asyncio.Event().wait()

    async def main():
        server: Any = Stuck()
        loader: Any = SimpleNamespace(load=lambda: SimpleNamespace(routers={"dns": None}))
        reloading = asyncio.create_task(reload(server, loader, "SIGUSR1", Manager({})))
        await asyncio.sleep(0)
        reloading.cancel()
        await asyncio.wait([reloading])
        return server.reloads

    reloads = asyncio.run(main())
    assert (reloads.failed, reloads.error) == (1, "it ended early")


@pytest.mark.parametrize(("generation", "kept"), [(object(), True), (None, False)])
def test_a_reload_that_fails_keeps_a_configuration_unless_the_server_has_ended(
    generation, kept, caplog
):
    server: Any = SimpleNamespace(generation=generation, reloads=Reloads())
    server.run = AsyncMock(side_effect=StartupError("a reason"))
    loader: Any = SimpleNamespace(load=lambda: SimpleNamespace(routers={"dns": None}))
    assert not asyncio.run(reload(server, loader, "SIGUSR1", Manager({})))
    middle = ", the old configuration stays in use" if kept else ""
    assert caplog.messages[-1] == f"SIGUSR1: reload failed{middle}: a reason"


def test_a_server_that_starts_or_stops(folder):
    with serve(COREFILE, control=True):
        (path,) = folder.glob(control_client.PATTERN)
        status = ask(path, "status")
    before = set(status["configuration"])
    server: Any = None
    status["configuration"] = asyncio.run(server_status._configuration(server, None))
    assert set(status["configuration"]) == before
    status["ready"], status["not_ready"] = False, []
    shown = [line.rstrip() for line in render(status).splitlines()]
    assert shown[1].endswith(", not ready: it has no configuration")
    assert shown[2] == "configuration  none"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (61, "1 min 1 s"), (7200, "2 h 0 min"), (90061, "1 d 1 h"), (59.9, "59 s")],
)
def test_spans(value, text):
    assert figures_text.span(value) == text


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (figures_text.seconds, None, "-"),
        (figures_text.seconds, 0.0000123, "12 us"),
        (figures_text.seconds, 0.0123, "12.3 ms"),
        (figures_text.seconds, 2.5, "2.5 s"),
        (figures_text.size, 100, "100 B"),
        (figures_text.size, 41 << 20, "41.0 MiB"),
        (figures_text.number, 1234567.4, "1,234,567"),
        (figures_text.printable, "a\x1b[2J\u202e", "a\\x1b[2J\\x202e"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_figures(function, value, text):
    assert function(value) == text


def test_the_status_of_any_plugin_is_shown():
    status = {
        "state": "in\nplace", "problems": ["x"], "rules": 12000, "share": 0.25, "on": True,
        "nothing": None, "deep": {"not": "shown"},
    }  # fmt: skip
    assert list(plugin_lines(status)) == ["in\\x0aplace, rules: 12,000, share: 0.25, on: True"]
    assert list(plugin_lines({"cache": {"entries": 1}, "upstreams": [{}]})) == [
        "1 of 0 entries, 0 B, hits -, 0 evicted",
        "-  -, RTT -, 0 queries, 0 failed",
    ]


def test_text_from_elsewhere_is_escaped(folder):
    with serve(COREFILE, control=True):
        (path,) = folder.glob(control_client.PATTERN)
        status = ask(path, "status")
    status["problems"] = ["\x1b[31mred"]
    status["configuration"]["warnings"] = ["one", "two"]
    status["reload"] = {"count": 1, "failed": 1, "time": 0, "reason": "\x07", "error": "a\nb\x1b"}
    status["ready"], status["not_ready"] = False, ["x\x1b"]
    text = render(status)
    assert text.replace("\n", "").isprintable()
    assert "2 warnings" in text
    assert "not ready: x\\x1b" in text
