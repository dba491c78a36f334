"""A query that a handler drops: no reply, whatever is above the handler and whatever the transport.

The table of plugins is tested with a series of messages, too (`tests/test_reply_series.py`).
"""

import asyncio
import socket
from pathlib import Path

import pytest

from corepy.commands.explanation import render
from corepy.dns import Reply, Request
from corepy.dns.records import rr
from corepy.dns.series import finish_message
from corepy.loading.registry import find
from corepy.net.frames import frame
from corepy.plugin import (
    Cacheability,
    FastHandler,
    Handler,
    ObservingHandler,
    control_client,
    lookup,
)
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.chain_task import task_set_aside
from corepy.testing import Recorder, make_request, query, run_chain, serve, with_handlers
from corepy.testing.client import read_frame


class Dropper(Handler):
    """Drops names that begin with "drop", at once or after a turn of the loop; answers the others."""

    name = "dropper"
    cacheability = Cacheability.SAFE
    calls = 0

    async def serve_dns(self, request):
        self.calls += 1
        if request.name.startswith("late"):
            await asyncio.sleep(0)
        if "series" in request.name:
            return request.reply_series(self.messages(request))
        return request.drop() if "drop" in request.name else request.error(0)

    def messages(self, request):
        for number in range(3):
            record = rr(b"\6series\0", 65280, number, b"\0")
            yield request.reply(answer=[record], additional=[record], authoritative=True)


class FastDropper(FastHandler):
    name = "dropper"

    def begin_dns(self, request):
        return request.drop() if "drop" in request.name else request.error(0)


def serve_dropper(*directives, kind=Dropper, control=False, **others):
    """Run a server with `directives` above a handler that drops."""
    body = "\n".join((*directives, "dropper", *others))
    plugins = with_handlers(dropper=kind, **others)
    rules = "".join(f"{name} before log\n" for name in others)
    order = f"dropper after whoami\n{rules}"
    return serve(
        f".:0 {{\n bind 127.0.0.1\n{body}\n}}\n", plugins=plugins, order=order, control=control
    )


def test_the_reply_says_that_it_is_dropped():
    request = make_request("example.org.", do=True)
    reply = run_chain(request, Recorder(lambda request: request.drop()))
    assert type(reply) is Reply
    assert (reply.is_dropped, reply.rcode, reply.ancount, reply.error) == (True, 0, 0, None)
    assert reply.copy().is_dropped
    assert not request.error(0).is_dropped


@pytest.mark.parametrize("kind", [Dropper, FastDropper])
@pytest.mark.parametrize("name", ["drop.test.", "late-drop.test."])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_dropped_query_gets_no_reply(kind, name, tcp):
    with serve_dropper(kind=kind) as server:
        assert server.drops(name, tcp=tcp)
        assert not server.drops("late.test.", tcp=tcp)


def test_the_connection_and_its_other_queries_live():
    with serve_dropper() as server, socket.create_connection(server.address, 30) as client:
        names = ["drop.", "a.", "late-drop.", "late.", "drop.", "b."]
        client.sendall(b"".join(frame(query(it, id=n)) for n, it in enumerate(names)))
        assert {read_frame(client)[1] for _ in range(3)} == {1, 3, 5}
        client.sendall(frame(query("c.", id=9)))
        assert read_frame(client)[1] == 9


def test_what_a_transport_is_told():
    """Empty bytes for no reply, None for one that comes later: each stream of DoH has to end."""

    def told(server):
        (endpoint,) = server.server.endpoints.values()
        pipeline, late = endpoint.listener("udp").pipeline, []
        runner = ChainRunner(
            lambda task, reply: late.append(pipeline.complete(task.request, reply))
        )

        def ask(wire):
            return pipeline.begin(wire, 1.0, ("127.0.0.1", 1), ("127.0.0.1", 53), runner)

        with task_set_aside():
            names = ("a.", "drop.", "late-drop.", "late.")
            found = [ask(query(name, id=7)) for name in names]
            found.append(ask(b"\0\7\x80\0"))
        return found, late

    with serve_dropper() as server:
        found, late = server.call(told, server)
        server.call(lambda: None)
        answered, *rest = found
        assert answered[:2] == b"\0\7"
        assert rest == [b"", None, None, b""]
        assert (late[0], late[1][:2]) == (b"", b"\0\7")


# -- each plugin above

ZONE_FILE = Path(__file__).parent / "zones/check/good-plain.zone"
LINES = {  # "" is a plugin that is not above another handler, or not in the process of the test
    "bind": "",
    "health": "health 127.0.0.1:0",
    "ready": "ready 127.0.0.1:0",
    "prometheus": "prometheus 127.0.0.1:0",
    "tls": "",  # needs a certificate
    "template": "template IN A {\n match ^other\n answer \"{{ .Name }} 1 IN A 192.0.2.1\"\n fallthrough\n}",
    "timeouts": "timeouts {\n read 3s\n}",
    "root": "root /",
    "autopath": "autopath @kubernetes",
    "geoip": "",  # needs a database
    "acl": "acl {\n block type MX net 192.0.2.0/24\n}",
    "on": "on startup true",
    "header": "header {\n response set ra\n}",
    "rewrite": "rewrite ttl suffix test 0-2147483647",
    "bufsize": "bufsize 1232",
    "multisocket": "",
    "nodecache": "",
    "sign": "",
    "alternate": "alternate SERVFAIL . 192.0.2.1",
    "fanout": "",
    "grpc": "",
    "kubernetes": "",  # needs a cluster
    "k8s_external": "",  # needs kubernetes
    "forward": "",
    "rrl": "rrl {\n responses-per-second 1000\n requests-per-second 1000\n}",
    "whoami": "",
    "loop": "loop",
    "blocklist": "blocklist {\n list /etc/hosts\n}",
    "dnstap": "dnstap listen tcp://127.0.0.1:0 full",
    "file": f"file {ZONE_FILE} a.invalid",
    "secondary": "secondary a.invalid {\n transfer from 127.0.0.1:1\n}",
    "transfer": "transfer {\n to *\n}",
    "view": "view all {\n expr true\n}",
}  # fmt: skip
PASSING = (
    *(
        "acl",
        "alternate",
        "any",
        "auto",
        "autopath",
        "blocklist",
        "bufsize",
        "cache",
        "cancel",
        "chaos",
        "dns64",
        "dnssec",
        "dnstap",
        "errors",
        "file",
    ),
    *(
        "header",
        "loadbalance",
        "local",
        "log",
        "loop",
        "metadata",
        "minimal",
        "nsid",
        "prometheus",
        "ratelimit",
        "rewrite",
        "rrl",
        "search_guard",
        "secondary",
        "template",
        "transfer",
        "tsig",
    ),
)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("name", sorted(name for name in find() if LINES.get(name, name)))
def test_a_plugin_passes_it_on(name, tcp):
    with serve_dropper(LINES.get(name, name)) as server:
        (dropper,) = server.plugins(Dropper)
        for asked in ("drop.test.", "late-drop.test.", "drop.test."):
            before, is_dropped = dropper.calls, server.drops(asked, tcp=tcp, do=True)
            reached = dropper.calls > before
            assert is_dropped or not reached
            assert reached or name not in PASSING


@pytest.mark.parametrize("name", sorted(name for name in find() if LINES.get(name, name)))
def test_a_plugin_passes_a_series_on(name):
    """Unchanged, as often as it is asked, whatever the type and whether it comes late."""
    line = "erratic {\n drop 0\n}" if name == "erratic" else LINES.get(name, name)
    with serve_dropper(line) as server:
        (dropper,) = server.plugins(Dropper)
        for asked, qtype in (("series.test.", "AAAA"), ("late-series.test.", "AXFR")) * 2:
            before = dropper.calls
            wire = query(asked, qtype, do=True, id=7)
            request = Request.from_wire(wire)
            expected = [finish_message(request, it) for it in dropper.messages(request)]
            with socket.create_connection(server.address, 30) as client:
                client.sendall(frame(wire))
                found = [read_frame(client)]
                if dropper.calls > before:
                    found += [read_frame(client) for _ in range(2)]
                    assert found == expected
                assert dropper.calls > before or name not in PASSING


def test_all_of_them_pass_a_series_on():
    lines = [LINES.get(name, name) for name in PASSING]
    with serve_dropper(*lines) as server, socket.create_connection(server.address, 30) as client:
        for _ in range(3):
            client.sendall(frame(query("series.test.", do=True, id=7)))
            assert [read_frame(client)[7] for _ in range(3)] == [1, 1, 1]
        assert server.packet_entries == 0


def test_all_of_them_pass_it_on():
    lines = [LINES.get(name, name) for name in PASSING]
    with serve_dropper(*lines) as server:
        assert server.drops("drop.test.", do=True)
        assert server.drops("late-drop.test.", tcp=True)
        assert not server.drops("late.test.")


class Changes(Handler):
    """A third party's handler that changes each reply as if it were an ordinary one."""

    name = "changes"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        reply = await self.next.serve_dns(request)
        reply.patch(reply.wire[:2] + bytes((reply.wire[2] | 4,)) + reply.wire[3:])
        record = reply.record
        record.header.ra = 1
        reply.set_record(record)
        reply.options = b"\xff\xf0\0\0"
        return reply


def test_a_handler_that_changes_it_does_not_send_it():
    with serve_dropper(kind=FastDropper, changes=Changes) as server:
        assert server.drops("drop.test.")
        assert server.ask("a.test.", do=True).header.ra


class Answers(Handler):
    """A third party's handler that answers what is dropped below it."""

    name = "answers"

    async def serve_dns(self, request):
        reply = await self.next.serve_dns(request)
        return request.error(5) if reply.is_dropped else reply


def test_a_handler_may_answer_after_all():
    with serve_dropper(answers=Answers) as server:
        assert server.ask("drop.test.").header.rcode == 5


# -- observers


class Observer(ObservingHandler):
    name = "observer"

    def __init__(self):
        self.seen = []

    def observe(self, request, reply):
        self.seen.append((request.name, reply.rcode, reply.is_dropped, reply.answered_by))


def test_observers_see_it_as_noerror():
    with serve_dropper(observer=Observer) as server:
        assert server.drops("drop.test.")
        assert server.drops("late-drop.test.")
        (observer,) = server.plugins(Observer)
        assert observer.seen == [
            ("drop.test.", 0, True, "dropper"), ("late-drop.test.", 0, True, "dropper")
        ]  # fmt: skip


# -- look-ups and explanations


class Alias(Handler):
    """Looks another name up and passes on what it finds."""

    name = "alias"

    async def serve_dns(self, request):
        if request.name != "alias.test.":
            return await self.next.serve_dns(request)
        found = await lookup(request, b"\4drop\4test\0")
        return request.drop() if found.is_dropped else request.error(5)


def test_a_look_up_shows_that_it_is_dropped():
    with serve_dropper(alias=Alias) as server:
        assert server.drops("alias.test.")
        assert server.drops("alias.test.", tcp=True)


@pytest.fixture
def explained(tmp_path, monkeypatch):
    """A function that runs a server and returns its explanation of a question, and the text."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])

    def explained(name, *directives, **others):
        with serve_dropper(*directives, control=True, **others):
            (path,) = control_client.sockets()
            explanation = control_client.ask(path, "explain", {"name": name})
        return explanation, render(explanation)

    return explained


def test_explain(explained):
    explanation, text = explained("drop.test.", "cache", "minimal")
    assert explanation["reply"] == {
        "dropped": True,
        "error": None,
        "size": 0,
        "text": ";; no reply: a plugin dropped the query\n",
    }
    did = {step["plugin"]: (step["did"], step["up"]) for step in explanation["steps"]}
    assert did == {
        "cache": ("passed on", []),
        "minimal": ("passed on", []),
        "dropper": ("dropped", []),
    }
    cache = explanation["steps"][0]
    assert cache["after"] == {"state": "miss", "not kept": "it is dropped"}
    assert explanation["packet_cache"]["reason"] == (
        "a plugin dropped the query, so there is no reply to store"
    )
    assert text.endswith("\n;; no reply: a plugin dropped the query\n")


def test_explain_a_look_up(explained):
    explanation, _ = explained("alias.test.", alias=Alias)
    assert [(it["plugin"], it["depth"], it["did"]) for it in explanation["steps"]] == [
        ("alias", 0, "dropped"),
        ("server", 0, "looked up drop.test. A: no reply"),
        ("alias", 1, "passed on"),
        ("dropper", 1, "dropped"),
    ]


def test_explain_an_answer_after_all(explained):
    explanation, _ = explained("drop.test.", answers=Answers)
    assert [(it["plugin"], it["did"], it.get("up")) for it in explanation["steps"]] == [
        (
            "answers",
            "passed on, changed the reply",
            ["sent, although dropped below", "rcode NOERROR -> REFUSED"],
        ),
        ("dropper", "dropped", []),
    ]
    assert explanation["reply"]["dropped"] is False
