"""Replies of several real upstreams, and the field cases of the manual page."""

import pytest

from corepy.testing import Upstream, make_request, query, serve, set_up
from corepy.testing.behaviours import BEHAVIOURS
from corepy_fanout import metrics
from corepy_fanout.handler import Fanout

NAME = "www.example.org."
GOOD = {f"{NAME} A": [f"{NAME} 60 IN A 192.0.2.1"]}
OTHER = {f"{NAME} A": [f"{NAME} 60 IN A 192.0.2.2"]}


def block(options, *upstreams):
    targets = " ".join(it if isinstance(it, str) else it.to for it in upstreams)
    return f". {{\n fanout . {targets} {{\n{options}\n}}\n}}"


def addresses(reply):
    return [str(record.rdata) for record in reply.rr]


def queries_for_name(upstream):
    return [proto for question, proto in upstream.queries if NAME in question]


@pytest.mark.parametrize("bad", ["nxdomain", "servfail", "refused", "formerr"])
@pytest.mark.parametrize("network", ["udp", "tcp"])
def test_the_first_good_reply_wins(bad, network):
    """networkservicemesh#1659: one server knows the name, the other denies it."""
    with (
        Upstream(bad) as first,
        Upstream(GOOD) as second,
        serve(block(f"network {network}", first, second)) as server,
    ):
        for _ in range(3):
            assert addresses(server.ask(NAME)) == ["192.0.2.1"]
        assert set(queries_for_name(second)) == {network}


@pytest.mark.parametrize(("race", "rcode"), [("", 0), ("race", 3)])
def test_one_upstream_that_cannot_be_reached(race, rcode):
    """networkservicemesh#1715: the reply was SERVFAIL."""
    behaviour = "nxdomain" if race else GOOD
    with Upstream(behaviour) as good, serve(block(race, "127.0.0.1:1", good)) as server:
        assert server.ask(NAME).header.rcode == rcode


def test_without_a_good_reply_the_first_one():
    with Upstream("refused") as one, serve(block("", one, "127.0.0.1:1")) as server:
        assert server.ask(NAME).header.rcode == 5


def test_no_reply_at_all():
    with serve(block("attempt-count 1", "127.0.0.1:1", "127.0.0.1:2")) as server:
        assert server.ask(NAME).header.rcode == 2


def test_the_number_of_servers():
    options = "weighted-random-server-count 1"
    with (
        Upstream("nxdomain") as first,
        Upstream(GOOD) as second,
        serve(block(options, first, second)) as server,
    ):
        assert server.ask(NAME).header.rcode == 3
        assert not queries_for_name(second)


@pytest.mark.parametrize("excluded", [False, True])
def test_exceptions_go_to_the_next_plugin(excluded):
    """fanout#13, fanout#14: *fanout* with exceptions above *forward*."""
    with Upstream(GOOD) as first, Upstream(OTHER) as second:
        text = block(f"except {'example.org' if excluded else 'example.com'}", first)
        text = text.replace("}\n}", f"}}\nforward . {second.to}\n}}")
        with serve(text) as server:
            expected = ["192.0.2.2"] if excluded else ["192.0.2.1"]
            assert addresses(server.ask(NAME)) == expected


def test_metrics_and_inputs():
    with (
        Upstream("nxdomain") as bad,
        Upstream(GOOD) as good,
        serve(block("", bad, good)) as server,
    ):
        server.ask(NAME)
        (handler,) = server.plugins(Fanout)
        assert good.to.encode() in handler.inputs
        assert metrics.REQUESTS.labels(good.to).value == 1
        assert metrics.RCODES.labels("NOERROR", good.to).value == 1
        assert sum(metrics.DURATION.labels(good.to).counts) == 1


def test_explained():
    (handler,) = set_up("fanout example.org 192.0.2.1 192.0.2.2").handlers
    assert handler.explain_state(make_request("a.test.")) == {
        "state": "the name is outside its zones"
    }
    assert handler.explain_state(make_request("www.example.org.")) == {
        "upstreams": "192.0.2.1:53, 192.0.2.2:53",
        "policy": "sequential",
        "asked": "2, 2 at the same time",
    }


def test_a_good_upstream_beside_one_of_any_behaviour():
    """Each client gets a NOERROR, whatever the other upstream does."""
    rcodes = {}
    with (
        Upstream("good") as first,
        Upstream("good") as second,
        serve(block("", first, second)) as server,
    ):
        for number, behaviour in enumerate(sorted(BEHAVIOURS)):
            first.behave(behaviour)
            reply = server.exchange(query(f"n{number}.example.org."))
            rcodes[behaviour] = reply[3] & 15
    assert {name: it for name, it in rcodes.items() if it} == {}
    assert len(rcodes) > 100
