"""*secondary* in whole servers: transfers, timers, notifications, failures, expiry, reloads."""

import base64
import contextlib
import socket
import threading

import pytest

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.series import messages_of
from corepy.dns.tsig import TSIGKey
from corepy.dns.tsig_exchange import SignedExchange
from corepy.testing import helper_module, query, serve
from corepy.testing.command import wait_until
from corepy.zone import changes_between
from corepy_secondary import fetching, follower
from corepy_secondary.secondary import Secondary

zones = helper_module(__file__, "secondary_zones")
a_record, build_zone, primary, soa_record = (
    zones.a_record,
    zones.build_zone,
    zones.primary,
    zones.soa_record,
)

ORIGIN = from_text("example.org.")
SPACING = follower.SPACING
SECRET = bytes(range(32))
KEY = TSIGKey(from_text("key.example."), SECRET)
TSIG = f"tsig {{\nsecret key.example {base64.b64encode(SECRET).decode()}\n}}\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Check a zone at once after a notification."""
    monkeypatch.setattr(follower, "SPACING", 0.0)


def version(serial, hosts=3, timers=()):
    return build_zone("example.org.", serial, hosts=hosts, timers=timers)


def corefile(*servers, options=(), more=""):
    lines = "\n".join(options)
    addresses = " ".join(it if isinstance(it, str) else it.address for it in servers)
    return (
        f"example.org {{\nbind 127.0.0.1\n{more}\ncache\n"
        f"secondary {{\ntransfer from {addresses}\n{lines}\n}}\n}}\n"
    )


def follower_of(server, origin=ORIGIN):
    (handler,) = server.plugins(Secondary)
    return handler.followers[origin]


def serial(server):
    zone = follower_of(server).served.current
    return None if zone is None else zone.serial


def notify(server, *, key=None, source="", name="example.org."):
    """Send a NOTIFY and return the reply."""
    wire = query(name, "SOA", opcode=4, rd=0)
    if key is None:
        return server.exchange(wire, source=source)
    exchange = SignedExchange(key)
    return exchange.verify(server.exchange(exchange.sign(wire), source=source))


def test_a_zone_is_transferred_and_served():
    with primary(version(7)) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 7)
        reply = server.ask("h2.example.org")
        assert (reply.header.rcode, reply.header.aa, str(reply.rr[0].rdata)) == (0, 1, "0.0.0.2")
        assert server.ask("nothing.example.org").header.rcode == c.RCODES["NXDOMAIN"]
        assert master.asked == [("AXFR", True)]


def test_queries_fail_until_there_is_a_zone(caplog):
    with primary() as master, serve(corefile(master), still=True) as server:
        wait_until(lambda: follower_of(server).problem)
        assert server.ask("h2.example.org").header.rcode == c.SERVFAIL
    assert f"{master.address}: the server answered REFUSED" in caplog.text


def test_the_first_transfer_is_attempted_until_it_succeeds(monkeypatch):
    monkeypatch.setattr(follower, "FIRST_RETRY", 0.001)
    with primary() as master, serve(corefile(master)) as server:
        wait_until(lambda: master.count("AXFR") > 3)
        master.put(version(1))
        wait_until(lambda: serial(server) == 1)


@pytest.mark.parametrize(("failures", "pause"), [(0, 0.25), (1, 0.5), (2, 1.0), (6, 10.0)])
def test_the_attempts_become_rarer(failures, pause):
    """CoreDNS: 250 ms, doubled up to 10 s."""
    assert min(follower.FIRST_RETRY * 2**failures, follower.LAST_RETRY) == pause


def test_timers_are_shortened_by_chance():
    found = [follower.shortened(1000.0) for _ in range(200)]
    assert 750 <= min(found) < 800 < 950 < max(found) <= 1000
    assert follower.shortened(0.0) == 1.0


# -- changes


def with_changes(versions):
    """The answer of a primary server that has these versions, the last one is the current one."""

    def answer(request, is_tcp):
        if request.qtype != c.TYPE_IXFR or not is_tcp:
            return None
        asked = int.from_bytes(request.wire[-20:-16], "big")
        (base,) = [it for it in versions if it.serial == asked]
        current = versions[-1]
        removed, added = (
            [it.wire for it in part if it.rtype != c.TYPE_SOA]
            for part in changes_between(base, current)
        )
        soa = current.soa_record
        records = [soa, base.soa_record, *removed, soa, *added, soa]
        return [it.wire for it in messages_of(request, records)]

    return answer


def test_changes_are_transferred_after_a_notification():
    versions = [version(1, 100), version(2, range(1, 102))]
    with (
        primary(versions[0], answer=with_changes(versions)) as master,
        serve(corefile(master)) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        assert server.ask("h0.example.org").header.rcode == 0
        master.put(versions[1])
        reply = notify(server)
        assert (reply[2] & 0xFC, reply[3] & 15) == (0xA4, 0)  # a reply to NOTIFY, with AA
        wait_until(lambda: serial(server) == 2)
        wait_until(lambda: server.ask("h0.example.org").header.rcode == c.RCODES["NXDOMAIN"])
        assert str(server.ask("h101.example.org").rr[0].rdata) == "0.0.0.101"
        assert master.asked == [("AXFR", True), ("SOA", False), ("IXFR", True)]


@pytest.mark.parametrize("rcode", [c.NOTIMP, c.REFUSED])
def test_a_primary_server_without_changes_sends_the_zone(rcode):
    def answer(request, is_tcp):
        return [request.error(rcode).wire] if request.qtype == c.TYPE_IXFR else None

    with primary(version(1), answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        master.put(version(2))
        notify(server)
        wait_until(lambda: serial(server) == 2)
        assert [it for it, _ in master.asked] == ["AXFR", "SOA", "IXFR", "AXFR"]


def test_changes_that_do_not_fit_are_replaced_by_the_zone():
    """The server's idea of version 1 is another one."""
    versions = [version(1, 9), version(2, 3)]
    with (
        primary(version(1, 3), answer=with_changes(versions)) as master,
        serve(corefile(master)) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        master.put(versions[1])
        notify(server)
        wait_until(lambda: serial(server) == 2)
        assert [it for it, _ in master.asked] == ["AXFR", "SOA", "IXFR", "AXFR"]


def test_the_refresh_timer_checks_the_zone(monkeypatch):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 0.0 if seconds == 77 else 3600.0)
    with (
        primary(version(1, timers=(77, 600, 86400, 60))) as master,
        serve(corefile(master)) as server,
    ):
        wait_until(lambda: master.count("SOA") > 2)
        master.put(version(2, timers=(77, 600, 86400, 60)))
        wait_until(lambda: serial(server) == 2)


def test_the_retry_timer_follows_a_failure(monkeypatch):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 0.0 if seconds == 77 else 3600.0)
    refuses: list[bool] = []

    def answer(request, is_tcp):
        return [request.error(c.SERVFAIL).wire] if refuses else None

    first = version(1, timers=(3600, 77, 86400, 60))
    with primary(first, answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        refuses.append(True)
        notify(server)
        wait_until(lambda: master.count("SOA") > 3)
        assert serial(server) == 1
        master.put(version(2))
        refuses.clear()
        wait_until(lambda: serial(server) == 2)


# -- expiry


def test_a_zone_expires_and_comes_back(monkeypatch, caplog):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 0.0 if seconds == 77 else 3600.0)
    refuses: list[bool] = []

    def answer(request, is_tcp):
        return [request.error(c.REFUSED).wire] if refuses else None

    first = version(1, timers=(3600, 77, 86400, 60))
    with primary(first, answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        assert server.ask("h1.example.org").header.rcode == 0
        refuses.append(True)
        notify(server)
        wait_until(lambda: follower_of(server).problem)
        server.call(follower_of(server)._expire)
        wait_until(lambda: server.ask("h1.example.org").header.rcode == c.SERVFAIL)
        assert "zone example.org. has expired" in caplog.text
        refuses.clear()
        wait_until(lambda: serial(server) == 1)
        assert server.ask("h1.example.org").header.rcode == 0
        assert master.count("AXFR") == 1


def test_the_expiry_begins_with_the_last_confirmation():
    with primary(version(1)) as master, serve(corefile(master), still=True) as server:
        wait_until(lambda: serial(server) == 1)
        found = follower_of(server)
        left = found._expiry.when() - server._loop.time()
        assert 86400 - 60 < left <= 86400
        before = found._expiry
        notify(server)
        wait_until(lambda: found._expiry is not before)
        assert before.cancelled()


def test_after_the_expiry_a_zone_that_began_anew_is_taken(monkeypatch):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 3600.0)
    with primary(version(5)) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 5)
        master.put(version(3))
        notify(server)
        wait_until(lambda: "the serial 3 is older than 5" in follower_of(server).problem)
        assert serial(server) == 5
        server.call(follower_of(server)._expire)
        notify(server)
        wait_until(lambda: serial(server) == 3)


# -- notifications


def test_a_notification_of_a_stranger_is_dropped(caplog):
    """RFC 1996 section 3.10."""
    with serve(corefile("127.0.0.9:1"), still=True) as server:
        for tcp in (False, True):
            assert server.drops("example.org", "SOA", opcode=4, tcp=tcp)
        assert not follower_of(server)._notice.is_set()
    assert caplog.text.count("from 127.0.0.1 is ignored: it is not a primary server") == 1


@pytest.mark.parametrize(("name", "qtype"), [("www.example.org", "SOA"), ("example.org", "A")])
def test_a_notification_for_something_else_is_refused(name, qtype):
    with primary(version(1)) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        reply = server.exchange(query(name, qtype, opcode=4))
        assert reply[3] & 15 == c.REFUSED
        assert master.count("SOA") == 0


def test_many_notifications_cause_one_check(monkeypatch):
    monkeypatch.setattr(follower, "SPACING", SPACING)
    with primary(version(1)) as master, serve(corefile(master), still=True) as server:
        wait_until(lambda: serial(server) == 1)
        found = follower_of(server)
        for _ in range(20):
            server.call(found.notify, b"\x7f\0\0\1")
        assert master.count("SOA") == 0
        server.call(server._loop.resume_clock)
        wait_until(lambda: found.task is not None and master.count("SOA") == 1)
        server.call(server._loop.stop_clock)
        server.call(lambda: None)
        assert master.count("SOA") == 1


# -- signatures


def test_a_notification_must_be_signed(caplog):
    text = corefile("127.0.0.1:1", options=["key key.example"], more=TSIG)
    with serve(text, still=True) as server:
        assert notify(server)[3] & 15 == c.REFUSED
        reply = notify(server, key=KEY)
        assert reply[3] & 15 == 0
    assert "is ignored: it is not signed with the key key.example." in caplog.text


# -- primary servers that fail or lie


LIES = {
    "another zone": lambda request: [
        it.wire for it in messages_of(request, [*build_zone("example.com.", 9).wires()])
    ],
    "no end": lambda request: [
        it.wire for it in messages_of(request, list(version(9, 2000).wires()), 1000)
    ],
    "garbage": lambda request: [bytes(40)],
    "short": lambda request: [b""],
    "cut off": lambda request: [request.reply(answer=[soa_record("example.org.", 9)]).wire[:-3]],
    "refusal": lambda request: [request.error(c.REFUSED).wire],
    "nothing": lambda request: [],
}


@pytest.mark.parametrize("case", LIES)
def test_the_next_primary_server_is_asked(case):
    def answer(request, is_tcp):
        return LIES[case](request) if request.qtype == c.TYPE_AXFR else None

    with (
        primary(version(9), answer=answer) as liar,
        primary(version(4)) as honest,
        serve(corefile(liar, honest)) as server,
    ):
        wait_until(lambda: serial(server) == 4)
        assert liar.count("AXFR") == 1
        wait_until(lambda: follower_of(server).source is not None)
        assert follower_of(server).source.address.port == honest.port


def test_a_closed_port_is_no_primary_server():
    with primary(version(4)) as honest, serve(corefile("127.0.0.1:1", honest)) as server:
        wait_until(lambda: serial(server) == 4)


def test_a_transfer_that_is_interrupted_changes_nothing(monkeypatch):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 3600.0)
    lies: list[bool] = []

    def answer(request, is_tcp):
        if not lies or request.qtype not in (c.TYPE_AXFR, c.TYPE_IXFR):
            return None
        return LIES["no end"](request)

    with primary(version(1), answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        lies.append(True)
        master.put(version(9))
        notify(server)
        wait_until(lambda: "closed before the end" in follower_of(server).problem)
        assert serial(server) == 1
        assert str(server.ask("h1.example.org").rr[0].rdata) == "0.0.0.1"


def test_a_stream_without_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(fetching, "MOST_BYTES", 100_000)

    def endless(request):
        records = [a_record(f"h{number}.example.org.", number) for number in range(1000)]
        yield request.reply(answer=[soa_record("example.org.", 9)], authoritative=True).wire
        while True:
            for message in messages_of(request, records):
                yield message.wire

    def answer(request, is_tcp):
        return endless(request) if request.qtype == c.TYPE_AXFR else None

    with primary(version(9), answer=answer) as liar, serve(corefile(liar), still=True) as server:
        wait_until(lambda: "the transfer is too long" in follower_of(server).problem)


class Silent:
    """A server that accepts one connection, and sends the first bytes of a message."""

    def __init__(self, sent):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.received = []
        self.thread = threading.Thread(target=self._run, args=[sent])
        self.thread.start()

    def _run(self, sent):
        sock, _ = self.listening.accept()
        with sock, contextlib.suppress(ConnectionError):
            sock.settimeout(60)
            self.received.append(sock.recv(1000))
            sock.sendall(sent)
            self.received.append(sock.recv(1000))


@contextlib.contextmanager
def silent(sent=b""):
    server = Silent(sent)
    try:
        yield server
        server.thread.join()
    finally:
        server.listening.close()


@pytest.mark.parametrize("sent", [b"", b"\0", b"\1\0abc"])
def test_a_server_that_sends_slowly_is_cut_off(sent, monkeypatch):
    monkeypatch.setattr(fetching, "MESSAGE_TIMEOUT", 0.01)
    with silent(sent) as slow, serve(corefile(slow), still=True) as server:
        wait_until(lambda: follower_of(server).problem)
        problem = "a message was not sent within 0.01 seconds"
        assert follower_of(server).problem == f"{slow.address}: {problem}"


def test_a_stop_cuts_off_a_transfer():
    """Neither waits for the other."""
    with silent(b"\1\0abc") as slow, serve(corefile(slow), still=True):
        wait_until(lambda: slow.received)
    assert slow.received[1:] in ([b""], [])


def test_a_reload_during_a_check_checks_again():
    with primary(version(1)) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        release, began = threading.Event(), threading.Event()

        def answer(request, is_tcp):
            if request.qtype == c.TYPE_IXFR and not release.is_set():
                began.set()
                release.wait(60)
            return

        master.answer = answer
        master.put(version(2))
        notify(server)
        assert began.wait(60)
        server.reload(corefile(master, options=["fallthrough"]))
        assert serial(server) == 1
        release.set()
        wait_until(lambda: serial(server) == 2)


# -- the query for the SOA record


@pytest.mark.parametrize("case", ["truncated", "refused", "silent"])
def test_the_serial_is_asked_over_tcp_if_udp_fails(case, monkeypatch):
    monkeypatch.setattr(fetching, "UDP_TIMEOUTS", (0.01,) if case == "silent" else (30.0,))

    def answer(request, is_tcp):
        if is_tcp or request.qtype != c.TYPE_SOA:
            return None
        wire = request.error(c.REFUSED if case == "refused" else 0).wire
        truncated = b"\x86" if case == "truncated" else wire[2:3]
        return [] if case == "silent" else [wire[:2] + truncated + wire[3:]]

    with primary(version(1), answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        master.put(version(2))
        notify(server)
        wait_until(lambda: serial(server) == 2)
        assert ("SOA", True) in master.asked


ANSWERS = {
    "rcode": (lambda request: request.error(c.REFUSED).wire, "answered REFUSED"),
    "no AA": (
        lambda request: request.reply(answer=[soa_record("example.org.", 2)]).wire,
        "not authoritative",
    ),
    "no SOA": (lambda request: request.reply(authoritative=True).wire, "no SOA record"),
    "another SOA": (
        lambda request: (
            request.reply(answer=[soa_record("example.com.", 2)], authoritative=True).wire
        ),
        "no SOA record",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_unusable_reply_to_the_query_for_the_serial(case, monkeypatch):
    monkeypatch.setattr(follower, "shortened", lambda seconds: 3600.0)
    make, problem = ANSWERS[case]

    def answer(request, is_tcp):
        return [make(request)] if request.qtype == c.TYPE_SOA else None

    with primary(version(1), answer=answer) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        notify(server)
        wait_until(lambda: problem in follower_of(server).problem)
        assert serial(server) == 1
        assert master.count("IXFR") == 0


# -- reloads, explain


def test_a_reload_keeps_the_zone(monkeypatch):
    with primary(version(1)) as master, serve(corefile(master)) as server:
        wait_until(lambda: serial(server) == 1)
        before = follower_of(server)
        for _ in range(2):
            server.reload(corefile(master, options=["fallthrough"]))
            assert follower_of(server) is not before
            assert serial(server) == 1
        assert server.ask("h1.example.org").header.rcode == 0
        assert master.asked == [("AXFR", True)]
        (handler,) = server.plugins(Secondary)
        assert handler.inputs == ORIGIN + soa_record("example.org.", 1)
        before.is_forgetting = follower_of(server).is_forgetting = True
        assert handler.inputs is None
        assert before.task.cancelled() or before.task.cancelling()
        master.put(version(2))
        notify(server)
        wait_until(lambda: serial(server) == 2)


def test_a_reload_with_another_primary_server_begins_anew():
    with (
        primary(version(1)) as first,
        primary(version(1)) as second,
        serve(corefile(first)) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        server.reload(corefile(second))
        wait_until(lambda: serial(server) == 1)
        assert second.asked == [("AXFR", True)]


def test_explain_shows_the_state_of_the_zone():
    with primary(version(1)) as master, serve(corefile(master)) as server:
        wait_until(lambda: follower_of(server).source)
        (handler,) = server.plugins(Secondary)
        request = zones.Request.from_wire(query("h1.example.org", "A"))
        state = server.call(handler.explain_state, request)
        assert (state["zone"], state["serial"]) == ("example.org.", 1)
        assert state["primary server"] == master.address
        assert state["seconds since the last check"] < 60
        master.answer = lambda request, is_tcp: [request.error(c.REFUSED).wire]
        notify(server)
        wait_until(lambda: follower_of(server).problem)
        assert "REFUSED" in server.call(handler.explain_state, request)["problem"]


def test_names_that_do_not_exist_may_go_on():
    text = corefile("127.0.0.1:1", options=["fallthrough"])
    with (
        primary(version(1)) as master,
        serve(text.replace("127.0.0.1:1", master.address)[:-2] + "whoami\n}\n") as server,
    ):
        wait_until(lambda: serial(server) == 1)
        assert server.ask("h1.example.org").header.aa == 1
        assert len(server.ask("nothing.example.org").ar) == 2  # from whoami
