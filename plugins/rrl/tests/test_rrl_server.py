"""Responses of a running server, from the chain and from the packet cache.

A rate of 0.001 a second allows one response for the duration of a test.
"""

from types import SimpleNamespace

import pytest

from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.testing import Recorder, make_request, run_chain, serve, set_up
from corepy_rrl import metrics
from corepy_rrl.handler import ResponseRateLimit

ANSWER = 'template IN A . {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'
CLIENT = "127.0.0.9"


def block(options, zones=""):
    return f". {{\n rrl {zones} {{\n{options}\n}}\n cache\n {ANSWER}\n}}\n"


def outcomes(server, names, **options):
    """Whether each reply is truncated; all have the rcode NOERROR."""
    replies = [server.ask(name, source=CLIENT, **options).header for name in names]
    assert {reply.rcode for reply in replies} == {0}
    return [reply.tc for reply in replies]


@pytest.mark.parametrize("cached", [False, True])
def test_equal_responses_are_limited_and_others_are_not(cached):
    with serve(block("responses-per-second 0.001\nslip-ratio 1")) as server:
        if cached:  # by the query of a client in another network
            server.ask("a.test.", source="127.0.1.1")
        assert outcomes(server, ["a.test."] * 4) == [0, 1, 1, 1]
        assert outcomes(server, ["b.test.", "b.test."]) == [0, 1]
        assert outcomes(server, ["a.test."] * 3, tcp=True) == [0, 0, 0]
        assert server.ask("a.test.", source="127.0.0.200").header.tc == 1  # the same network
        assert server.ask("a.test.", source="127.0.2.1").header.tc == 0
        pipeline = next(iter(server.server.endpoints.values())).listener("udp").pipeline
        assert pipeline.packets.entries  # it is on


def test_requests_are_limited_over_tcp_too():
    with serve(block("requests-per-second 0.001\nreport-only")) as server:
        before = total(metrics.REQUESTS)
        outcomes(server, ["a.test.", "a.test.", "b.test."])
        outcomes(server, ["a.test.", "a.test."], tcp=True)
        assert total(metrics.REQUESTS) == before + 4


def total(metric):
    return sum(it.value for _, it in metric.children())


def handler_for(options, zones="."):
    (handler,) = set_up(f"rrl {zones} {{\n{options}\n}}").handlers
    assert isinstance(handler, ResponseRateLimit)
    return handler


def run(handler, name="a.test.", answer=None, **options):
    return run_chain(make_request(name, **options), handler, Recorder(answer))


def answer(request):
    return request.reply(answer=[rr(request.name_wire, 1, 60, bytes(4))])


def test_dropped_and_slipped_responses():
    handler = handler_for("responses-per-second 0.001\nslip-ratio 2")
    replies = [run(handler, answer=answer) for _ in range(5)]
    assert [it.is_dropped for it in replies] == [False, True, False, True, False]
    assert [(it.tc, it.ancount) for it in replies] == [
        (False, 1),
        (False, 0),
        (True, 0),
        (False, 0),
        (True, 0),
    ]


def test_requests_over_the_limit_are_dropped_and_never_slip():
    handler = handler_for("requests-per-second 0.001\nslip-ratio 1")
    replies = [run(handler, name) for name in ("a.test.", "b.test.", "c.test.")]
    assert [it.is_dropped for it in replies] == [False, True, True]
    assert run(handler, protocol="tcp").is_dropped


@pytest.mark.parametrize("protocol", ["tcp", "tls", "https"])
def test_responses_over_connections_are_not_limited(protocol):
    handler = handler_for("responses-per-second 0.001")
    assert not any(run(handler, answer=answer, protocol=protocol).is_dropped for _ in range(3))


@pytest.mark.parametrize(
    ("options", "name", "denied"),
    [
        ("responses-per-second 0.001", "www.other.", False),
        ("responses-per-second 0.001", "www.limited.", True),
        ("responses-per-second 0", "www.limited.", False),
        ("nxdomains-per-second 0.001", "www.limited.", False),
        ("responses-per-second 0.001\nreport-only", "www.limited.", False),
    ],
)
def test_which_responses_are_limited(options, name, denied):
    handler = handler_for(options, "limited")
    assert [run(handler, name, answer).is_dropped for _ in range(3)] == [False, denied, denied]


@pytest.mark.parametrize(
    ("option", "rcode"), [("nxdomains-per-second", 3), ("errors-per-second", 2)]
)
def test_names_that_differ_do_not_help_an_attacker(option, rcode):
    handler = handler_for(f"{option} 0.001")
    names = ["a.test.", "b.test.", "c.test."]
    replies = [run(handler, name, lambda request: request.error(rcode)) for name in names]
    assert [it.is_dropped for it in replies] == [False, True, True]


def test_look_ups_of_the_server_are_not_limited():
    handler = handler_for("responses-per-second 0.001\nrequests-per-second 0.001")
    for _ in range(3):
        request = make_request("a.test.")
        request.metadata["corepy/lookups"] = 1
        assert not run_chain(request, handler, Recorder(answer)).is_dropped


def test_the_clients_in_metrics_are_limited():
    before = total(metrics.RESPONSES)
    for number in range(300):
        metrics.count(metrics.RESPONSES, (f"192.0.{number % 256}.{number % 7}", 53))
    labels = {labels for labels, _ in metrics.RESPONSES.children()}
    assert len(labels) <= metrics.MOST_CLIENTS + 1
    assert (metrics.OTHER,) in labels
    assert total(metrics.RESPONSES) == before + 300


def test_explained():
    handler = handler_for("responses-per-second 4\nrequests-per-second 8", "limited")
    outside = make_request("www.other.")
    assert handler.explain_state(outside) == {"state": "the name is outside its zones"}
    request = make_request("www.limited.")
    request.received = 5.0
    assert handler.explain_state(request) == {"requests": "8 left of 8 a second"}
    reply = request.reply(answer=[rr(from_text("www.limited."), 1, 60, bytes(4))])
    assert handler.explain_state(request, reply) == {
        "requests": "8 left of 8 a second",
        "category": "response",
        "responses": "4 left of 4 a second",
    }
    run_chain(request, handler, Recorder(lambda _: reply))
    assert handler.explain_state(request, reply)["responses"] == "3 left of 4 a second"


@pytest.mark.parametrize(("processes", "answered"), [(1, 4), (4, 1)])
def test_processes_of_a_server_divide_the_rates(processes, answered):
    handler = handler_for("responses-per-second 4\nrequests-per-second 4")
    handler.before_listen(SimpleNamespace(process_group=SimpleNamespace(size=processes)))
    for options in ({}, {"protocol": "tcp"}):
        replies = []
        for _ in range(6):
            request = make_request("a.test.", peer=(f"192.0.{len(options)}.1", 53), **options)
            request.received = 5.0
            replies.append(run_chain(request, handler, Recorder(answer)).is_dropped)
        assert replies == [False] * answered + [True] * (6 - answered)
