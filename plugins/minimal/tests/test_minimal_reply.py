"""What is left of which reply, and what the directive takes."""

import dnslib
import pytest

from corepy.dns import Reply
from corepy.dns.wire import ttl_offsets
from corepy.plugin import Cacheability, CorefileError
from corepy.testing import Recorder, Upstream, make_request, reply_of, run_chain, serve, set_up

ANSWER = ["example.com. 293 IN A 142.250.76.46"]
ALIAS = ["example.com. 5 IN CNAME www.example.com.", "www.example.com. 5 IN A 192.0.2.1"]
NS = [f"example.com. 157127 IN NS ns{i}.example.com." for i in range(1, 5)]
SOA = ["example.com. 60 IN SOA ns. host. 1 2 3 4 5"]
EXTRA = [f"ns{i}.example.com. 316273 IN A 216.239.34.{i}" for i in range(1, 5)]


def minimized(sections, rcode):
    def reply(request):
        return Reply(reply_of(request.record, *sections, rcode=rcode))

    (handler,) = set_up("minimal").handlers
    return run_chain(make_request("example.com"), handler, Recorder(reply))


@pytest.mark.parametrize(
    ("sections", "rcode", "left"),
    [
        ((ANSWER, [], EXTRA), 0, (1, 0, 0)),
        ((ANSWER, NS, EXTRA), 0, (1, 0, 0)),
        ((ALIAS, NS, EXTRA), 0, (2, 0, 0)),
        ((ANSWER, [], []), 0, (1, 0, 0)),
        (([], [], EXTRA), 0, (0, 0, 0)),
        (([], NS, EXTRA), 0, (0, 4, 4)),
        (([], SOA, EXTRA), 0, (0, 1, 4)),
        (([], SOA, []), 3, (0, 1, 0)),
        (([], NS, EXTRA), 2, (0, 4, 4)),
        (([], [], EXTRA), 5, (0, 0, 4)),
    ],
)
def test_sections(sections, rcode, left):
    reply = minimized(sections, rcode)
    record = reply.record
    assert (len(record.rr), len(record.auth), len(record.ar)) == left
    assert reply.rcode == rcode
    assert len(ttl_offsets(reply.wire)) == sum(left)
    expected = [str(dnslib.RR.fromZone(line)[0]) for line in sections[0]]
    assert [str(rr) for rr in record.rr] == expected


def test_unreadable_reply_is_left_to_the_server():
    broken = b"\0\0\x80\0\0\1\0\1\0\1\0\0\7exam"
    (handler,) = set_up("minimal").handlers
    assert run_chain(make_request("a"), handler, Recorder(lambda r: Reply(broken))).wire == broken


def test_directive():
    (handler,) = set_up("minimal").handlers
    assert handler.cacheability is Cacheability.SAFE
    for text in ("minimal example.org", "minimal {\n}"):
        with pytest.raises(CorefileError):
            set_up(text)


def test_served():
    def answer(query, proto):
        record = query.reply()
        for line in ANSWER:
            record.add_answer(*dnslib.RR.fromZone(line))
        for line in NS:
            record.add_auth(*dnslib.RR.fromZone(line))
        return record

    with Upstream(answer) as upstream:
        text = f". {{\nbind 127.0.0.1\nminimal\ncache\nforward . {upstream.to}\n}}"
        with serve(text) as server:
            replies = [server.ask("example.com") for _ in range(2)]
    assert [(len(reply.rr), len(reply.auth)) for reply in replies] == [(1, 0), (1, 0)]
