"""Replies of alternate upstreams, with real upstreams, and the field cases of the manual page."""

import pytest

from corepy.testing import Recorder, Upstream, make_request, run_chain, serve, set_up
from corepy_alternate.handler import Alternate

GOOD = {"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}
NAME = "www.example.org."


def addresses(reply):
    return [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize(
    ("rcodes", "first", "asked"),
    [
        ("NXDOMAIN", "nxdomain", True),  # alternate#60, alternate#20
        ("SERVFAIL", "servfail", True),
        ("REFUSED", "refused", True),  # coredns#1382
        ("SERVFAIL,REFUSED", "refused", True),
        ("SERVFAIL,REFUSED", "nxdomain", False),
        ("NXDOMAIN", "refused", False),
        ("NXDOMAIN", "good", False),
    ],
)
@pytest.mark.parametrize("cache", ["", "cache"])
def test_replies_with_the_rcode_are_replaced(rcodes, first, asked, cache):
    with Upstream(first) as upstream, Upstream(GOOD) as other:
        text = f". {{\n forward . {upstream.to}\n alternate {rcodes} . {other.to}\n {cache}\n}}"
        with serve(text) as server:
            for _ in range(2):
                reply = server.ask(NAME)
                if asked:
                    assert addresses(reply) == ["192.0.2.1"]
            questions = [question for question, _ in other.queries if NAME in question]
            assert bool(questions) is asked
            if cache and asked:
                assert len(questions) == 1


def test_an_upstream_that_does_not_answer_is_a_servfail():
    """coredns#2524: the reply of *forward* without an upstream."""
    with Upstream(GOOD) as other:
        text = f". {{\n forward . 127.0.0.1:1\n alternate SERVFAIL . {other.to}\n}}"
        with serve(text) as server:
            assert addresses(server.ask(NAME)) == ["192.0.2.1"]


def test_several_lines_each_with_its_upstreams():
    with (
        Upstream("nxdomain") as first,
        Upstream(GOOD) as second,
        Upstream({f"{NAME} A": [f"{NAME} 60 IN A 192.0.2.2"]}) as third,
    ):
        lines = f"alternate NXDOMAIN . {second.to}\nalternate SERVFAIL . {third.to}"
        with serve(f". {{\n forward . {first.to}\n {lines}\n}}") as server:
            assert addresses(server.ask(NAME)) == ["192.0.2.1"]
            first.behave("servfail")
            assert addresses(server.ask(NAME)) == ["192.0.2.2"]


def test_the_reply_of_the_alternate_is_final():
    with Upstream("nxdomain") as first, Upstream("servfail") as second:
        lines = f"alternate NXDOMAIN . {second.to}\nalternate SERVFAIL . 127.0.0.1:1"
        with serve(f". {{\n forward . {first.to}\n {lines}\n}}") as server:
            assert server.ask(NAME).header.rcode == 2


def test_a_block_without_another_plugin():
    """coredns-netbox-plugin#2: the end of the chain answers SERVFAIL."""
    with Upstream(GOOD) as other, serve(f". {{\n alternate SERVFAIL . {other.to}\n}}") as server:
        assert addresses(server.ask(NAME)) == ["192.0.2.1"]


@pytest.mark.parametrize("kind", ["drop", "series"])
def test_replies_that_are_not_about_an_rcode_are_passed_on(kind):
    (handler,) = set_up("alternate NOERROR . 192.0.2.1").handlers
    request = make_request(NAME, protocol="tcp")
    made = {"drop": request.drop, "series": lambda: request.reply_series(iter(()))}[kind]()
    assert run_chain(request, handler, Recorder(lambda _: made)) is made


def test_inputs_are_those_of_the_upstreams():
    with Upstream(GOOD) as other, serve(f". {{\n alternate SERVFAIL . {other.to}\n}}") as server:
        (handler,) = server.plugins(Alternate)
        assert other.to.encode() in handler.inputs


def test_explained():
    (handler,) = set_up("alternate NXDOMAIN,SERVFAIL . 192.0.2.1").handlers
    assert handler.explain_state(make_request(NAME)) == {"replaces": "NXDOMAIN, SERVFAIL"}
