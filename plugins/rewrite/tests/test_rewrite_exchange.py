"""Whole exchanges: the replies that clients get back, hostile names, explain."""

import contextlib
from dataclasses import replace
from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request, finish
from corepy.dns.edns import OPTION_COOKIE, OPTION_NSID, OPTION_SUBNET, option, parse_options
from corepy.dns.names import lower
from corepy.dns.presentation import read_record
from corepy.dns.reply_validation import reply_problem
from corepy.dns.wire import walk
from corepy.plugin import CorefileError, FastHandler
from corepy.testing import Recorder, make_request, run_chain, set_up
from corepy_rewrite.answer import Answer
from corepy_rewrite.exchange import Exchange
from corepy_rewrite.handler import Rewrite
from corepy_rewrite.records import read_records

REVERTED = (
    "name prefix web www answer auto",
    "name suffix .site.test .cluster.local answer auto",
    "name substring old.label new.label answer auto",
    r"name regex ^([^.]*)-(\d+)\.(.*)\.$ n{2}.{1}.{3} answer auto",
    "name exact a.cluster.local b.cluster.local",
    "type TXT A",
    "edns0 local set 65001 {qname} revert",
    "edns0 local append 65002 0xabcd revert",
    "edns0 nsid set revert",
    "edns0 subnet set 24 56 revert",
)
ECHOED = {65001, 65002}
SUBNET = b"\0\1\x10\0\xc0\0"
LABELS = st.one_of(
    st.sampled_from(["web", "WEB", "old", "Label", "a", "x-1", "site", "svc"]).map(str.encode),
    st.binary(min_size=1, max_size=20),
)
NAMES = st.builds(
    lambda labels, end: b"".join(bytes((len(it),)) + it for it in labels) + end,
    st.lists(LABELS, max_size=4),
    st.sampled_from([b"\0", b"\4Site\4test\0", b"\7cluster\5LOCAL\0"]),
)
OPTIONS = st.none() | st.lists(
    st.tuples(st.sampled_from([*ECHOED, OPTION_NSID, OPTION_COOKIE, 4000]), st.binary(max_size=9))
    | st.just((OPTION_SUBNET, SUBNET)),
    max_size=5,
    unique_by=lambda each: each[0],
)


class Below(FastHandler):
    """Answers at once, and records what it was asked."""

    name = "below"

    def __init__(self, answer):
        self.requests, self._answer = [], answer

    def begin_dns(self, request):
        self.requests.append(request)
        return self._answer(request)


@lru_cache
def handler_of(text):
    (handler,) = set_up(text).handlers
    return handler


def begin(text, answer, request):
    """Return the handler below the rules in `text`, and the reply of the rules."""
    handler = handler_of(text)
    handler.next = below = Below(answer)
    return below, handler.begin_dns(request)


def answer(asked):
    """Answer with records of the name that was asked, and of one below it."""
    name = asked.question[:-4]
    below = b"\3sub" + name
    if len(below) > 255:
        below = name
    records = [
        b"".join((owner, kind, bytes(4), len(data).to_bytes(2, "big"), data))
        for owner, kind, data in (
            (name, b"\0\x0f\0\1", b"\0\5" + below),
            (below, b"\0\1\0\1", b"\xc0\0\2\1"),
        )
    ]
    return asked.reply(0, records)


@settings(max_examples=150, deadline=None)
@given(st.permutations(REVERTED), NAMES, OPTIONS, st.sampled_from([1, 16]), st.booleans())
def test_the_client_gets_its_own_name_and_options_back(rules, name, options, qtype, is_repeating):
    """In any order of the rules; `is_repeating` is an upstream that repeats all options."""
    controller = set_up("\n".join(f"rewrite continue {rule}" for rule in rules))
    assert controller.echoed_options == ECHOED
    request = make_request("x", protocol="tcp").derive(
        name_wire=name,
        qtype=qtype,
        options=None if options is None else b"".join(option(*each) for each in options),
    )
    request.context = replace(request.context, echoed_options=frozenset(ECHOED))
    (handler,) = controller.handlers
    handler.next = below = Below(repeating if is_repeating else answer)
    reply = handler.begin_dns(request)
    assert isinstance(reply, Reply)
    assert reply_problem(request, reply) is None
    message = finish(request, reply)
    assert message[12 : request.question_end] == request.question
    returned = [wire for wire in walk(message) if wire[1] == 41]
    assert len(returned) == (options is not None)
    sent = parse_options(message[returned[0][4] :]) if returned else []
    own = options or []
    if not is_repeating or reply.rcode:
        own = [each for each in own if each[0] in ECHOED]
    assert sorted(sent) == sorted(own)
    if reply.rcode:
        assert (reply.rcode, reply.ancount) == (2, 0)  # a changed name was too long
        return
    (asked,) = below.requests
    assert asked.qtype == 1
    assert {*ECHOED, OPTION_NSID, OPTION_SUBNET} <= {
        code for code, _ in parse_options(asked.edns.options)
    }
    first, second = read_records(reply.wire)
    assert first.owner == name  # in the client's case
    assert first.names == [second.owner]
    assert lower(second.owner).endswith(lower(name))


def repeating(asked):
    """Answer with the options of the query."""
    reply = answer(asked)
    reply.options = asked.edns.options
    return reply


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120), st.sampled_from(["answer auto", "answer value (.*) {1}x", ""]))
def test_malformed_replies_are_failures(tail, rule):

    def malformed(asked):
        reply = asked.error(0)
        reply.wire = reply.wire[:6] + b"\0\2\0\1\0\0" + reply.wire[12:] + tail
        return reply

    request = make_request("a.example")
    text = rf"rewrite name regex ^(a|b)\.example\.$ {{1}}{{1}}.example {rule}"
    _, reply = begin(text, malformed, request)
    assert reply.wire[12 : request.question_end] == request.question
    assert reply.rcode in (0, 2)


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet="abc.{}01-\\()*_ /", max_size=25), st.sampled_from(["name", "cname", "ttl"])
)
def test_hostile_words_are_accepted_or_refused(text, field):
    with contextlib.suppress(CorefileError):
        set_up(f'rewrite {field} regex "{text}" "{text}"\nrewrite {field} "{text}" 5')


def test_a_name_of_many_records_is_mapped_once():
    request, mapped = make_request("bx", "MX"), []
    reply = request.reply(0, [read_record("bx. 60 MX 1 mail.bx.", 60).wire] * 3)

    def note(name):
        mapped.append(name)
        return name

    Answer(Exchange(request), request, reply).map_names(note, owners=True, values=True)
    assert mapped == [b"\2bx\0", b"\4mail\2bx\0"]


def test_a_reply_that_grows_beyond_the_size_of_a_message_is_truncated():
    """The targets of SRV records are not compressed, and the old name is longer."""
    old = ".".join(("x" * 60,) * 2)
    record = read_record("b. 60 SRV 0 0 0 b.", 60).wire
    request = make_request(old, "SRV", protocol="tcp")
    _, reply = begin(f"rewrite name {old} b", lambda it: it.reply(0, [record] * 1000), request)
    assert (reply.rcode, reply.tc, reply_problem(request, reply)) == (0, True, None)
    assert 65_300 < len(reply.wire) <= 65_535
    assert len(read_records(reply.wire)) == reply.ancount < 1000


def test_a_dropped_query_stays_dropped():
    (handler,) = set_up("rewrite name a.example b.example").handlers
    reply = run_chain(make_request("a.example"), handler, Recorder(Request.drop))
    assert reply.is_dropped


def test_explain_names_the_rules():
    text = "rewrite continue name a.example b.example\nrewrite ttl b.example 5\nrewrite name x y..z"
    handler = handler_of(text)
    assert isinstance(handler, Rewrite)
    shown = [handler.explain_state(make_request(name)) for name in ("a.example", "c.example", "x")]
    assert shown == [
        {"state": "rewritten", "rules": "Corefile:2:1, Corefile:3:1"},
        {"state": "no rule", "rules": 3},
        {"state": "failed", "reason": "invalid name after rewrite: y..z."},
    ]
