"""`corepy tail`: filters, bounds, and clients that are slow or gone."""

import asyncio
import json
import os
import threading

import pytest

from corepy.commands import tail_queries
from corepy.commands.tail_queries import line_of, main
from corepy.dns.context import UNROUTED
from corepy.dns.names import from_text
from corepy.plugin import CommandError, control_client
from corepy.plugin.control_client import ControlError, ask
from corepy.server.traffic import watchers as module
from corepy.server.traffic.sampler import BUDGET, WATCHED_BUDGET
from corepy.server.traffic.watchers import Filter, Sighting, Watchers
from corepy.testing import serve

COREFILE = """\
. {
    bind 127.0.0.1
    cache
    template IN A example.org {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
    template IN A denied {
        rcode NXDOMAIN
    }
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


CLIENT = bytes((10, 1, 2, 3))


def seen(name="www.example.org.", qtype=1, rcode=0, seconds=0.001):
    return Sighting(
        from_text(name), qtype, 1, rcode, seconds, 64, UNROUTED, ("10.1.2.3", 5300), None
    )


@pytest.mark.parametrize(
    ("argument", "sighting", "accepted"),
    [
        ({}, seen(), True),
        ({"name": "Example.org"}, seen(), True),
        ({"name": "www.example.org."}, seen(), True),
        ({"name": "ample.org"}, seen(), False),
        ({"client": "10.1.0.0/16"}, seen(), True),
        ({"client": "10.1.2.3"}, seen(), True),
        ({"client": "10.2.0.0/16"}, seen(), False),
        ({"client": "::/0"}, seen(), False),
        ({"client": "10.1.2.0/24"}, seen(), True),
        ({"client": "::ffff:10.1.2.0/120"}, seen(), True),
        ({"type": "AAAA"}, seen(), False),
        ({"type": "TYPE1"}, seen(), True),
        ({"rcode": "nxdomain"}, seen(), False),
        ({"rcode": "NXDOMAIN"}, seen(rcode=3), True),
        ({"rcode": "RCODE3"}, seen(rcode=3), True),
        ({"rcode": "NOERROR"}, seen(rcode=-1), False),
        ({"slow": 0.05}, seen(), False),
        ({"slow": 0.05}, seen(seconds=0.05), True),
        ({"name": "example.org", "type": "A", "rcode": None}, seen(), True),
    ],
)
def test_a_filter(argument, sighting, accepted):
    assert Filter.of(argument).accepts(sighting, CLIENT) is accepted


@pytest.mark.parametrize(
    ("network", "client", "accepted"),
    [
        ("0.0.0.0/0", b"", False),
        ("2001:db8::/32", b"\x20\x01\x0d\xb8" + bytes(12), True),
        ("2001:db9::/32", b"\x20\x01\x0d\xb8" + bytes(12), False),
    ],
)
def test_a_filter_of_other_clients(network, client, accepted):
    assert Filter.of({"client": network}).accepts(seen(), client) is accepted


@pytest.mark.parametrize(
    "argument",
    [
        None, [], {"names": "x"}, {"name": 1}, {"name": "a..b"}, {"client": "10.0.0.0/33"},
        {"type": "NOTYPE"}, {"rcode": "NOCODE"}, {"slow": "1"}, {"slow": -1}, {"slow": True},
        {"slow": float("inf")}, {"slow": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_filters_that_are_refused(argument):
    with pytest.raises(CommandError, match="filter"):
        Filter.of(argument)


def run(work):
    changes: list[bool] = []

    async def main():
        return await work(Watchers(changes.append))

    return asyncio.run(main()), changes


def test_a_slow_reader_gets_the_first_events_and_the_number_of_the_others(monkeypatch):
    monkeypatch.setattr(module, "BUFFER", 3)
    monkeypatch.setattr(module, "MOST_EVENTS", 2)

    async def work(watchers):
        watchers.add("one", {"rcode": "NOERROR"})
        watchers.add("other", {"rcode": "NXDOMAIN"})
        for _ in range(5):
            watchers.show(seen(), CLIENT, 10)
        return [await watchers.poll(name, 0) for name in ("one", "one", "one", "other")]

    (first, second, third, other), changes = run(work)
    assert [len(it["events"]) for it in (first, second, third, other)] == [2, 1, 0, 0]
    assert first["left_out"] == {"sampled": 45, "buffer": 2}
    assert (first["seen"], second["seen"], other["seen"]) == (50, 0, 50)
    assert other["left_out"] == {"sampled": 45, "buffer": 0}
    assert changes == [True]


def test_a_reader_that_is_gone_is_removed():
    async def work(watchers):
        watchers.add("gone", {})
        watchers.add("polled", {})
        loop = asyncio.get_running_loop()
        watchers.active["gone"].polled = loop.time() - module.PATIENCE - 1
        watchers.tick()
        left = list(watchers.active)
        watchers.remove("polled")
        watchers.remove("polled")
        return left

    assert run(work) == (["polled"], [True, False])


def test_the_number_of_readers_is_limited():
    async def work(watchers):
        for number in range(module.MOST_WATCHERS):
            watchers.add(str(number), {})
        with pytest.raises(CommandError, match="already"):
            watchers.add("more", {})

    run(work)


def test_a_poll_waits_for_an_event_or_for_the_end_of_the_server():
    async def work(watchers):
        watchers.add("one", {})
        poll = asyncio.create_task(watchers.poll("one", 60))
        await asyncio.sleep(0)
        watchers.show(seen(), CLIENT, 1)
        first = await poll
        poll = asyncio.create_task(watchers.poll("one", 60))
        await asyncio.sleep(0)
        watchers.remove("one")
        return first, await poll

    (first, second), _ = run(work)
    assert (len(first["events"]), len(second["events"])) == (1, 0)


def test_queries_of_a_server(folder):
    with serve(COREFILE, control=True) as server:
        (path,) = folder.glob(control_client.PATTERN)
        opened = ask(path, "tail", {"filter": {"name": "example.org"}})
        for _ in range(3):
            server.ask("a.example.org")
        server.ask("x.denied")
        server.ask("a.example.org", tcp=True)
        found = ask(path, "tail", {**opened, "wait": 0})
        traffic = server.server.traffic
        budgets = [traffic.repeated.budget]
        assert ask(path, "tail", {**opened, "stop": True}) == {}
        budgets.append(traffic.repeated.budget)
        with pytest.raises(ControlError, match="does not exist"):
            ask(path, "tail", opened)
    events = found["events"]
    assert [it["source"] for it in events] == ["template", "cache", "packet cache", "cache"]
    assert [it["protocol"] for it in events] == ["udp"] * 3 + ["tcp"]
    assert {it["name"] for it in events} == {"a.example.org."}
    assert {(it["client"], it["type"], it["class"], it["rcode"]) for it in events} == {
        ("127.0.0.1", "A", "IN", "NOERROR")
    }
    assert (found["seen"], found["left_out"]) == (5, {"sampled": 0, "buffer": 0})
    assert budgets == [WATCHED_BUDGET, BUDGET]


@pytest.mark.parametrize(
    "argument",
    [
        None, {}, {"id": 1}, {"id": "x", "wait": -1}, {"id": "x", "wait": 11},
        {"id": "x", "wait": "1"}, {"id": "x", "stop": 1}, {"id": "x", "other": 1},
        {"filter": {"type": "NONE?"}},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_that_are_refused(folder, argument):
    with serve(COREFILE, control=True):
        (path,) = folder.glob(control_client.PATTERN)
        with pytest.raises(ControlError, match=r"tail|exist|filter"):
            ask(path, "tail", argument)


def printed(capsys, server, arguments, *names):
    """Run the command until it ends, and send queries when it watches."""
    codes = []
    command = threading.Thread(target=lambda: codes.append(main(arguments)))
    command.start()
    while not server.server.traffic.watchers.active:
        assert command.is_alive()
    for name in names:
        server.ask(name)
    command.join()
    assert not server.server.traffic.watchers.active
    return codes, *capsys.readouterr()


def test_the_command(capsys):
    with serve(COREFILE, control=True) as server:
        names = ("b.example.org", "x.denied", "b.example.org")
        codes, out, err = printed(capsys, server, ["-name", "example.org", "-count", "2"], *names)
        words = ["-rcode=NXDOMAIN", "-json", "-count=1", f"-pid={os.getpid()}"]
        _, lines, _ = printed(capsys, server, words, *names)
        assert main(["-pid", "1"]) == 1
        assert "no server has the process ID 1" in capsys.readouterr().err
    assert (codes, err) == ([0], "")
    first, second = out.splitlines()
    assert "  udp  b.example.org.  A  NOERROR  " in first
    assert first.endswith("by template")
    assert second.endswith("by cache")
    (event,) = map(json.loads, lines.splitlines())
    assert (event["name"], event["rcode"]) == ("x.denied.", "NXDOMAIN")


def test_the_command_without_a_server(capsys):
    assert main([]) == 1
    assert capsys.readouterr().err == (
        "corepy tail: no server runs here, or this user may not use its control socket\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-client", "10.0.0.0/99"], "client of the filter: '10.0.0.0/99' does not appear to be"),
        (
            ["-rcode", "NXDOMIAN"],
            "rcode of the filter: unknown rcode 'NXDOMIAN': did you mean 'NXDOMAIN'?",
        ),
        (["-type", "AAA"], "type of the filter: unknown DNS type: 'AAA'"),
    ],
)
def test_a_wrong_filter_is_reported_once(arguments, message, capsys):
    """Before any server is asked."""
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"corepy tail: {message}")


@pytest.mark.parametrize("arguments", [["-slow", "fast"], ["-count", "0"], ["-count", "x"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert f"{arguments[1]!r}" in capsys.readouterr().err


def test_the_command_ends_with_the_server(monkeypatch, capsys):
    monkeypatch.setattr(tail_queries, "WAIT", 0)
    replies = iter([
        {"events": [], "left_out": {"sampled": 9, "buffer": 1}, "seen": 20},
        control_client.ServerGoneError("gone"),
    ])  # fmt: skip

    def ask(path, command, argument):
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(tail_queries, "answers", lambda *_, pid: [("socket", {"id": "x"})])
    monkeypatch.setattr(tail_queries, "ask", ask)
    assert main([]) == 1
    assert capsys.readouterr().err == (
        "corepy tail: the server has stopped, or it has restarted\n"
        "corepy tail: 10 of 20 queries were not looked at or not shown, because there are too many\n"
    )


def test_a_line_has_no_control_characters():
    event = seen("a\\027[2J.example.org.").event()
    event["error"] = "\x1b]0;title\x07"
    line = line_of(event)
    assert line.isprintable()
    assert "a\\027[2J.example.org." in line
    assert "(\\x1b]0;title\\x07)" in line
