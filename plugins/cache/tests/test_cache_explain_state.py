"""What the cache tells `corepy explain`: its state, and why a reply is not kept."""

import dnslib
import pytest

from corepy.dns import Reply
from corepy.testing import Recorder, make_request, reply_of, run_chain, set_up

SOA = "example.org. 60 IN SOA ns.example.org. me.example.org. 1 2 3 4 30"


def asked(options="", name="www.example.org", change=lambda reply: None, **reply):
    """Ask once; return the cache, the request, and the reply."""
    (cache,) = set_up(f"cache {{\n{options}\n}}").handlers
    request = make_request(name)
    request.received = cache.store.clock()

    def answer(request):
        made = Reply.from_wire(reply_of(dnslib.DNSRecord.question(name), **reply))
        change(made)
        return made

    return cache, request, run_chain(request, cache, Recorder(answer))


def answer(ttl=60):
    return {"answer": [f"www.example.org. {ttl} IN A 192.0.2.1"]}


def test_states():
    cache, request, reply = asked(**answer())
    assert cache.explain_state(make_request("other.example.org")) == {"state": "miss"}
    known = cache.explain_state(request, reply)
    assert known.pop("seconds left") in (59, 60)
    assert known == {"state": "fresh", "ttl": 60, "kept as": "success"}
    (narrow,) = set_up("cache example.net").handlers
    assert narrow.explain_state(request) == {"state": "the name is outside its zones"}
    assert cache.explain_state(make_request("www.example.org", opcode=4)) == {
        "state": "the name is outside its zones"
    }


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"rcode": 3, "authority": [SOA]}, "denial"),
        ({"rcode": 2}, "failure"),
        ({"authority": [SOA]}, "denial"),
    ],
)
def test_what_it_is_kept_as(reply, kind):
    cache, request, reply = asked(**reply)
    assert cache.explain_state(request, reply)["kept as"] == kind


def test_stale():
    cache, request, _ = asked("serve_stale 1h verify", **answer())
    (entry,) = cache.store.success
    entry.stored -= 70
    known = cache.explain_state(request)
    assert known.pop("seconds over") in (10, 11)
    assert known == {"state": "stale", "serve_stale": "verify", "kept as": "success"}
    entry.stored -= 3700
    assert cache.explain_state(request) == {"state": "miss"}


def truncate(reply):
    reply.wire = reply.wire[:2] + bytes((reply.wire[2] | 2,)) + reply.wire[3:]


def cut(reply):
    reply.wire = reply.wire[:-2]


def turn(reply):
    reply.wire = reply.wire[:13] + b"x" + reply.wire[14:]


@pytest.mark.parametrize(
    ("options", "change", "reply", "reason"),
    [
        ("", truncate, answer(), "it is truncated"),
        ("", turn, answer(), "it answers a different question"),
        ("", cut, {**answer(), "authority": [SOA]}, "it is malformed"),
        ("", None, {"rcode": 3}, "without an SOA record, a missing name has no TTL"),
        ("", None, {"rcode": 5}, "REFUSED is never cached (OTHERERROR)"),
        ("", None, {"answer": ["www.example.org. 60 IN CNAME a.example.net."]},
         "its CNAME chain has no record of the queried type"),
        ("servfail 0", None, {"rcode": 2}, "failures are not cached (servfail 0)"),
        ("disable success example.org", None, answer(), "caching is disabled for this name"),
        ("success 1024 60 0", None, answer(0), "its TTL is 0"),
        ("success 1024 60 0\nservfail 0", None, answer(0), "its TTL is 0"),
    ],
)  # fmt: skip
def test_why_something_is_not_kept(options, change, reply, reason):
    cache, request, got = asked(options, change=change or (lambda reply: None), **reply)
    assert len(cache.store.success) + len(cache.store.denial) == 0
    assert cache.explain_state(request, got) == {"state": "miss", "not kept": reason}


def test_looking_changes_nothing():
    cache, request, _ = asked("serve_stale 1h\nserve_stale_policy prefer_positive", **answer())
    (entry,) = cache.store.success
    for used in (True, False):
        entry.used = used
        cache.explain_state(request)
        assert (entry.used, entry.hits) == (used, 0)
