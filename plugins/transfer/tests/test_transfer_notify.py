"""Notifications of secondary servers: when they are sent, repeated, and given up (RFC 1996)."""

import base64
import contextlib
import socket
import threading
import time

import pytest

from corepy.dns import Identity, Request, finish, signed
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.tsig_mac import verify
from corepy.plugin import Controller
from corepy.testing import helper_module, inline, serve
from corepy.testing.command import wait_until
from corepy.testing.installed import installed
from corepy_transfer import notify
from corepy_transfer.transfer import Transfer

zones = helper_module(__file__, "transfer_zones")
Zones = zones.Zones

SECRET = bytes(range(32))
NAME = from_text("key.example.")
TSIG = f"tsig {{\nsecret key.example {base64.b64encode(SECRET).decode()}\n}}\n"


def plugins():
    def setup(controller: Controller) -> None:
        for _ in controller.single():
            controller.add_handler(Zones())

    return {**installed(), "zones": inline("zones", setup, after=("transfer",))}


def corefile(*lines):
    body = "\n".join(lines)
    return f"example.org {{\nbind 127.0.0.1\n{TSIG}transfer {{\n{body}\n}}\nzones\n}}\n"


class Secondary:
    """Receives notifications, and answers them with a function of the test."""

    def __init__(self, answer):
        self.requests = []
        self.peers = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            request = Request.from_wire(data)
            self.requests.append(request)
            self.peers.append(peer)
            for reply in self._answer(request, len(self.requests)):
                self._socket.sendto(reply, peer)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@contextlib.contextmanager
def secondary(answer):
    server = Secondary(answer)
    try:
        yield server
    finally:
        server.close()


def plain(request, rcode=0):
    return finish(request, request.error(rcode))


def accepts(request, number):
    yield plain(request)


def test_servers_are_notified_at_the_start_and_after_a_change(caplog):
    caplog.set_level("DEBUG", "corepy.plugin.transfer")
    with (
        secondary(accepts) as first,
        secondary(accepts) as second,
        serve(
            corefile(f"to 127.0.0.1:{first.port} * 127.0.0.1:{second.port} 10.0.0.0/8"),
            plugins=plugins(),
        ) as server,
    ):
        wait_until(lambda: len(first.requests) == len(second.requests) == 1)
        (source,) = server.plugins(Zones)
        server.call(source.change)
        wait_until(lambda: len(first.requests) == len(second.requests) == 2)
        wait_until(lambda: caplog.text.count("Sent notify for zone 'example.org.'") == 4)
    for request in first.requests:
        assert (request.name, request.type, request.opcode) == ("example.org.", "SOA", 4)
        assert (request.flags & c.FLAG_AA, request.identity.tsig) == (c.FLAG_AA, None)


def test_a_notification_is_signed_and_the_reply_verified():
    def answer(request, number):
        tsig, signer = verify(request.identity.tsig, {NAME: SECRET}, server_time)
        request.identity = Identity(tsig=tsig, signer=signer)
        verdicts.append(tsig.error)
        yield signed(request, plain(request))

    verdicts: list[int | None] = []
    server_time = time.time
    with secondary(answer) as first:
        text = corefile(f"to 127.0.0.1:{first.port}", "key key.example")
        with serve(text, plugins=plugins()):
            wait_until(lambda: verdicts == [0])


def test_the_source_is_used():
    with secondary(accepts) as first:
        text = corefile(f"to 127.0.0.1:{first.port}", "source 127.0.0.7")
        with serve(text, plugins=plugins()):
            wait_until(lambda: first.peers)
    assert first.peers[0][0] == "127.0.0.7"


def test_a_notification_is_repeated_until_it_is_answered(monkeypatch, caplog):
    """Answers of others, to other queries, are ignored."""

    def answer(request, number):
        if number == 4:
            return
        other = plain(request)
        yield other[:2] + b"\x80" + other[3:]  # a reply to a query
        yield bytes((other[0] ^ 1,)) + other[1:]
        yield other[:20]
        yield request.wire
        if number == 3:
            yield other

    caplog.set_level("DEBUG", "corepy.plugin.transfer")
    monkeypatch.setattr(notify, "TIMEOUTS", (0.01, 0.01, 60.0))
    with secondary(answer) as first:
        with serve(corefile(f"to 127.0.0.1:{first.port}"), plugins=plugins()):
            wait_until(lambda: "Sent notify" in caplog.text)
        assert len(first.requests) == 3
    assert len({request.id for request in first.requests}) > 1


FAILURES = {
    "rcode": (lambda request, number: [plain(request, c.REFUSED)], "", "rcode was REFUSED"),
    "no reply": (lambda request, number: [], "", "no reply"),
    "unsigned": (accepts, "key key.example", "the reply NOERROR is not signed"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_logged_once(case, monkeypatch, caplog):
    answer, line, problem = FAILURES[case]
    monkeypatch.setattr(notify, "TIMEOUTS", (0.01,) * 3 if case == "no reply" else (60.0,))
    with secondary(answer) as first:
        text = corefile(f"to 127.0.0.1:{first.port}", line)
        with serve(text, plugins=plugins()):
            wait_until(lambda: "was not accepted" in caplog.text)
        assert len(first.requests) == (3 if case == "no reply" else 1)
    (record,) = [it for it in caplog.records if it.name == "corepy.plugin.transfer"]
    address = f"127.0.0.1:{first.port}"
    message = f"notify for zone 'example.org.' was not accepted by {address}: {problem}"
    assert record.getMessage() == message


def test_a_closed_port_is_reported(monkeypatch, caplog):
    monkeypatch.setattr(notify, "TIMEOUTS", (0.0,) * 2)
    with secondary(accepts) as first:
        port = first.port
    with serve(corefile(f"to 127.0.0.1:{port}"), plugins=plugins()):
        wait_until(lambda: "was not accepted" in caplog.text)
    assert "Connection refused" in caplog.text or "no reply" in caplog.text


def test_a_later_change_replaces_a_notification_that_waits():
    with (
        secondary(lambda request, number: [plain(request)] if number > 3 else []) as first,
        serve(corefile(f"to 127.0.0.1:{first.port}"), plugins=plugins()) as server,
    ):
        (source,) = server.plugins(Zones)
        (transfer,) = server.plugins(Transfer)
        for number in range(1, 4):
            wait_until(lambda at=number: len(first.requests) >= at)
            server.call(source.change)
        wait_until(lambda: len(first.requests) >= 4)
        wait_until(lambda: not transfer._notifier._tasks)


def test_other_processes_do_not_notify():
    with secondary(accepts) as first:
        text = corefile(f"to 127.0.0.1:{first.port}")
        with serve(text, plugins=plugins()) as server:
            wait_until(lambda: first.requests)
            (transfer,) = server.plugins(Transfer)
            transfer._notifier = None
            server.call(transfer.notify_secondaries, from_text("example.org."))
            server.call(lambda: None)
        assert len(first.requests) == 1


@pytest.mark.parametrize(("other", "warned"), [("zones", False), ("whoami", True)])
def test_a_block_without_zones(other, warned, caplog):
    with serve(f"example.org {{\ntransfer {{\nto *\n}}\n{other}\n}}\n", plugins=plugins()):
        pass
    message = "no other plugin of the server block has zones to transfer: example.org."
    assert (message in caplog.messages) == warned
