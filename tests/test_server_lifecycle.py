"""Start, reload, stop: the hooks and their order, sockets that stay, failures that change nothing."""

import asyncio
import socket
import threading
from contextlib import ExitStack

import dnslib
import pytest

from corepy.corefile import CorefileError
from corepy.net.frames import frame
from corepy.plugin import Handler, StartupError, hookimpl
from corepy.testing import ask, free_port, inline, query, serve
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until


class Life(Handler):
    """Answers with the name it was given and notes the hooks that are called, in `events`.

    It answers a query for "slow." when it is stopped.
    """

    name = "life"

    def __init__(self, text, events, fails_in=None):
        self.text, self.events, self.fails_in = text, events, fails_in
        self.is_stopping = asyncio.Event()

    def note(self, hook, detail):
        self.events.append(f"{self.text} {hook} {detail}")
        if hook == self.fails_in:
            raise StartupError(f"{hook} does not like it here")

    async def serve_dns(self, request):
        if request.name.startswith("slow."):
            await self.is_stopping.wait()
        return request.reply(answer=dnslib.RR.fromZone(f'{request.name} 60 TXT "{self.text}"'))

    @hookimpl
    async def before_listen(self, context):
        await asyncio.sleep(0)
        self.note("before_listen", f"replaces={context.replaces}")

    @hookimpl
    def serving(self, context):
        self.note("serving", f"addresses={len(context.addresses)}")

    @hookimpl
    def stopping(self, context):
        self.note("stopping", f"final={context.final}")
        self.is_stopping.set()

    @hookimpl
    async def shutdown(self):
        await asyncio.sleep(0)
        self.note("shutdown", "")


@pytest.fixture
def events():
    return []


@pytest.fixture
def plugins(events):
    def setup(controller):
        for _ in controller.occurrences():
            args = controller.remaining_args()
            controller.add_handler(Life(args[0], events, args[1] if len(args) > 1 else None))

    return {"life": inline("life", setup)}


def text_of(reply):
    return str(reply.rr[0].rdata).strip('"')


def test_hooks_of_a_life(events, plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        assert events == ["a before_listen replaces=False", "a serving addresses=1"]
        assert text_of(server.ask("example.org.")) == "a"
    assert events[2:] == ["a stopping final=True", "a shutdown "]


def test_hooks_start_down_the_chain_and_stop_up(events, plugins):
    with serve(". {\nlife a\n life b\n}", plugins=plugins):
        pass
    assert [event.split()[:2] for event in events] == [
        [name, hook]
        for hook, order in (
            ("before_listen", "ab"),
            ("serving", "ab"),
            ("stopping", "ba"),
            ("shutdown", "ba"),
        )
        for name in order
    ]


def test_reload_overlaps_the_generations(events, plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        address = server.address
        server.reload(". {\nlife b\n}")
        assert server.address == address
        assert text_of(server.ask("example.org.")) == "b"
        assert events[2:] == [
            "b before_listen replaces=True",
            "b serving addresses=1",
            "a stopping final=False",
            "a shutdown ",
        ]


def test_reload_opens_and_closes_addresses(plugins):
    with serve(".:0 {\nlife a\n}", plugins=plugins) as server:
        first = server.address
        port = free_port("0.0.0.0")
        server.reload(f".:0 {{\nlife b\n}}\n.:{port} {{\nlife c\n}}")
        assert text_of(ask(first, "example.org.")) == "b"
        assert text_of(ask(("127.0.0.1", port), "example.org.", tcp=True)) == "c"
        server.reload(f".:{port} {{\nlife d\n}}")
        assert text_of(server.ask("example.org.")) == "d"
        with pytest.raises(ConnectionRefusedError):
            ask(first, "example.org.", tcp=True)


def test_a_query_in_flight_is_answered_by_its_generation(plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(server.ask("slow.test.")))
        thread.start()
        wait_until(
            lambda: server.call(lambda: any(e.waiting() for e in server.server.endpoints.values()))
        )
        server.reload(". {\nlife b\n}")
        thread.join()
        assert text_of(answers[0]) == "a"


def test_stop_answers_what_is_in_flight(plugins):
    answers = []
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        threads = [
            threading.Thread(
                target=lambda tcp=tcp: answers.append(server.ask("slow.test.", tcp=tcp))
            )
            for tcp in (False, True)
        ]
        for thread in threads:
            thread.start()
        wait_until(
            lambda: (
                server.call(lambda: sum(len(e.waiting()) for e in server.server.endpoints.values()))
                == 2
            )
        )
    for thread in threads:
        thread.join()
    assert [text_of(answer) for answer in answers] == ["a", "a"]


@pytest.mark.parametrize("name", ["quick.test.", "slow.test."])
@pytest.mark.parametrize("tcp", [False, True])
def test_stop_answers_what_lies_in_the_socket(plugins, name, tcp):
    """Not the packet cache: a chain has to be run, by the task that stops the server."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with ExitStack() as cleanup, serve(". {\nlife a\n}", plugins=plugins) as server:
        clients = [cleanup.enter_context(socket.socket(type=kind)) for _ in range(3)]

        async def ask_and_stop():
            for client in clients:
                client.settimeout(30)
                client.connect(server.address)
                client.sendall(frame(query(name)) if tcp else query(name))
            await server.server.stop()  # before the event loop could look at the socket

        asyncio.run_coroutine_threadsafe(ask_and_stop(), server._loop).result(60)
        wires = [read_frame(client) if tcp else client.recv(999) for client in clients]
    assert [text_of(dnslib.DNSRecord.parse(wire)) for wire in wires] == ["a"] * 3


@pytest.mark.parametrize("hook", ["before_listen", "serving"])
def test_a_failed_start_is_undone(events, plugins, hook):
    with (
        pytest.raises(StartupError, match=f"plugin/life: {hook} does not like it here"),
        serve(f". {{\nlife a {hook}\n}}", plugins=plugins),
    ):
        pass
    assert events[-1] == "a shutdown "


@pytest.mark.parametrize("hook", ["before_listen", "serving"])
def test_a_failed_reload_changes_nothing(events, plugins, hook):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        with pytest.raises(StartupError):
            server.reload(f". {{\nlife b {hook}\n}}\n example.org:0 {{\nlife c\n}}")
        assert text_of(server.ask("example.org.")) == "a"
        assert text_of(server.ask("example.org.", tcp=True)) == "a"
        assert len(server.addresses) == 1
        assert not [event for event in events if event.startswith("a s") and "serving" not in event]
        assert "b shutdown " in events


def test_a_reload_to_a_busy_port_changes_nothing(events, plugins):
    with socket.socket() as taken, serve(".:0 {\nlife a\n}", plugins=plugins) as server:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"cannot listen on tcp :{port}: another program"):
            server.reload(f".:0 {{\nlife b\n}}\n.:{port} {{\nlife c\n}}")
        assert text_of(server.ask("example.org.")) == "a"


def test_a_reload_that_waits_for_the_stop_does_not_start_the_server_again(events, plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        generation = server._build(". {\nlife b\n}")

        async def stop_and_reload():
            stopping = asyncio.create_task(server.server.stop())
            await asyncio.sleep(0)  # it has begun
            with pytest.raises(StartupError, match="the server has been stopped"):
                await server.server.run(generation)
            await stopping

        asyncio.run_coroutine_threadsafe(stop_and_reload(), server._loop).result(60)
    assert events[2:] == ["a stopping final=True", "a shutdown "]


def test_a_reload_with_mistakes_changes_nothing(plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        with pytest.raises(CorefileError):
            server.reload(". {\nlif a\n}")
        assert text_of(server.ask("example.org.")) == "a"


def test_many_reloads_under_load_lose_nothing(plugins):
    with serve(". {\nlife a\n}", plugins=plugins) as server:
        done, lost, asked = threading.Event(), [], []

        def client():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(30)
                sock.connect(server.address)
                while not done.is_set():
                    wire = query("example.org.")
                    sock.send(wire)
                    asked.append(1)
                    if sock.recv(999)[:2] != wire[:2]:
                        lost.append(wire)

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(30):
            server.reload(f". {{\nlife {turn}\n}}")
        done.set()
        for thread in threads:
            thread.join()
        assert asked
        assert not lost
