"""What a reply over TCP that answers something else does: nobody but the upstream can send it."""

import re
from functools import partial

import dnslib
import pytest

from corepy.testing import Upstream, free_port
from corepy.testing import serve as serve_with_timers

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

EDE = 15


def good(query, _proto):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return reply


def another_question(query, proto):
    other = dnslib.DNSRecord.question("other.example")
    other.header.id = query.header.id
    return good(other, proto)


def another_type(query, proto):
    other = dnslib.DNSRecord.question("example.org", "AAAA")
    other.header.id = query.header.id
    return other.reply()


def another_class(query, proto):
    wire = bytes(good(query, proto).pack())
    end = 12 + len(query.q.qname.label) + sum(map(len, query.q.qname.label)) + 1 + 4
    return wire[: end - 2] + b"\0\3" + wire[end:]


def no_question(query, proto):
    return bytes(good(query, proto).pack())[:4] + bytes(8) + b"trailing"


def two_questions(query, proto):
    wire = bytes(good(query, proto).pack())
    return wire[:5] + b"\2" + wire[6:]


def echo(query, _proto):
    return bytes(query.pack())


def another_opcode(query, proto):
    wire = bytes(good(query, proto).pack())
    return wire[:2] + bytes((wire[2] | 5 << 3,)) + wire[3:]


WRONG = [
    another_question, another_type, another_class, no_question, two_questions, echo, another_opcode,
]  # fmt: skip
NO_TIMERS = "max_fails 0\nread_timeout 30s\nforce_tcp\npolicy sequential"


def corefile(*upstreams):
    to = " ".join(each.to for each in upstreams)
    return f".:0 {{\nerrors\nforward . {to} {{\n{NO_TIMERS}\n}}\n}}"


@pytest.mark.parametrize("behave", WRONG)
def test_it_ends_the_attempt(behave, caplog):
    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        reply = server.ask("example.org", edns=1232)
        assert len(upstream.queries) == 4
    (opt,) = reply.ar
    ((code, data),) = [(each.code, bytes(each.data)) for each in opt.rdata]
    assert (reply.header.rcode, reply.rr, reply.auth) == (2, [], [])
    assert (code, data) == (EDE, b"\0\x17no upstream sent a usable answer")
    (line,) = [r.getMessage() for r in caplog.records if "example.org" in r.getMessage()]
    attempts = "; ".join(
        rf"read tcp {re.escape(upstream.to)} \(attempt {n} of 4, [\d.]+s\): reply to another question"
        for n in (1, 2, 3, 4)
    )
    assert re.search(f" A: {attempts}$", line)


@pytest.mark.parametrize("behave", WRONG)
def test_the_next_upstream_is_asked_at_once(behave):
    with (
        Upstream(behave) as one,
        Upstream(good) as two,
        serve(corefile(one, two)) as server,
    ):
        assert str(server.ask("example.org").rr[0].rdata) == "192.0.2.7"
        assert (len(one.queries), len(two.queries)) == (1, 1)


def test_the_others_on_the_connection_get_their_replies():
    def behave(query, proto):
        return (echo if str(query.q.qname) == "echo.example." else good)(query, proto)

    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("echo.example").header.rcode == 2
        assert str(server.ask("example.org").rr[0].rdata) == "192.0.2.7"


def numbers_of(caplog):
    text = " ".join(record.getMessage() for record in caplog.records)
    return [(int(one), int(most)) for one, most in re.findall(r"attempt (\d+) of (\d+)", text)]


def test_attempts_are_counted_truly_when_nobody_listens(caplog):
    """For lack of TCP it is asked over UDP for as much as that carries: the same attempt still."""
    corefile = f".:0 {{\nerrors\nforward . 127.0.0.1:{free_port()} {{\nmax_fails 0\n}}\n}}"
    with serve(corefile) as server:
        assert server.ask("example.org", tcp=True).header.rcode == 2
    assert numbers_of(caplog) == [(1, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_attempts_are_counted_truly_when_a_bare_header_is_asked_again(caplog):
    """A bare header is believed at last; what was asked again because of it counts with it."""

    def behave(query, proto):
        if proto == "tcp":
            raise OSError
        return bytes(query.pack())[:2] + b"\x80\0" + bytes(8)

    corefile = ".:0 {{\nerrors\nforward . {} {{\nmax_fails 0\nread_timeout 30s\n}}\n}}"
    with Upstream(behave) as upstream, serve(corefile.format(upstream.to)) as server:
        assert server.ask("example.org").header.rcode == 2
    assert numbers_of(caplog) == [(1, 4)] * 3
