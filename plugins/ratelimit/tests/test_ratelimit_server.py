"""Limits in a running server, with the packet cache on. Buckets are not refilled during a test."""

from types import SimpleNamespace

import pytest

from corepy.plugin import Denial
from corepy.testing import Recorder, make_request, run_chain, serve, set_up
from corepy_ratelimit.handler import RateLimit
from corepy_ratelimit.limiter import update
from corepy_ratelimit.metrics import CLIENTS, DENIED, DROPPED, EXEMPT, UNTRACKED

ANSWER = 'template IN A . {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'
ABUSER = "127.0.0.9"
NEVER = 10**9  # processes that share the rate, so that a token takes decades


def block(options="", zone="."):
    return f"{zone} {{\n ratelimit 3 {{\n{options}\n}}\n cache\n {ANSWER}\n}}\n"


@pytest.fixture
def limited():
    """Return a server for a Corefile, whose buckets have three tokens and get no more."""
    running = []

    def start(text):
        running.append(serve(text))
        server = running[-1].__enter__()
        for handler in server.plugins(RateLimit):
            server.call(handler.gate.rates.divide, NEVER)
        return server

    yield start
    for one in running:
        one.__exit__(None, None, None)


def total(metric, *labels):
    """The sum of the children of a metric with these last labels."""
    children = metric.children()
    return sum(it.value for known, it in children if known[len(known) - len(labels) :] == labels)


def outcomes(server, times, **options):
    replies = [server.ask("www.test.", **options).header for _ in range(times)]
    return [(reply.rcode, reply.tc) for reply in replies]


GOOD, REFUSED, TRUNCATED = (0, 0), (5, 0), (0, 1)
OTHER_BLOCK = f"other.test {{\n {ANSWER}\n}}\n"


@pytest.mark.parametrize("other", ["", OTHER_BLOCK, block(zone="other.test")], ids=["0", "1", "2"])
@pytest.mark.parametrize(
    ("options", "denied"),
    [("", REFUSED), ("action refused", REFUSED), ("action tc", TRUNCATED)],
    ids=["default", "refused", "tc"],
)
def test_a_client_over_its_limit_while_others_are_answered(limited, other, options, denied):
    """Whether the listener asks the gate, or the handler and the packet cache do."""
    server = limited(block(options) + other)
    word = (Denial.TRUNCATE if denied == TRUNCATED else Denial.REFUSE).value
    before = total(DROPPED), total(DENIED, word)
    assert outcomes(server, 6, source=ABUSER) == [GOOD] * 3 + [denied] * 3
    assert outcomes(server, 3, source="127.0.0.8") == [GOOD] * 3
    assert outcomes(server, 4, source=ABUSER, tcp=True) == [GOOD] * 4
    assert (total(DROPPED), total(DENIED, word)) == (before[0] + 3, before[1] + 3)
    if other:
        replies = [server.ask("www.other.test.", source=ABUSER).header.rcode for _ in range(3)]
        assert replies == [0] * 3  # another block is not limited, or has buckets of its own


def test_every_second_dropped_query_slips_through_truncated():
    """Without a server, since most queries get no reply."""
    (handler,) = set_up("ratelimit 3 {\n action drop\n slip 2\n}").handlers
    handler.gate.rates.divide(NEVER)
    replies = [run_chain(make_request("www.test."), handler, Recorder()) for _ in range(9)]
    assert [reply.is_dropped for reply in replies] == [False] * 3 + [True, False] * 3
    assert [reply.tc for reply in replies] == [False] * 4 + [True, False] * 2 + [True]


def test_exempt_clients_are_answered_and_counted(limited):
    server = limited(block(f"exempt {ABUSER}/32"))
    before = total(EXEMPT)
    assert outcomes(server, 8, source=ABUSER) == [GOOD] * 8
    assert total(EXEMPT) == before + 5
    assert outcomes(server, 5, source="127.0.0.8")[-1] == REFUSED


def test_a_report_denies_nothing(limited):
    server = limited(block("report_only"))
    before = total(DROPPED), total(DENIED, "report")
    assert outcomes(server, 5, source=ABUSER) == [GOOD] * 5
    assert (total(DROPPED), total(DENIED, "report")) == (before[0] + 2, before[1] + 2)


def test_the_packet_cache_stays_on():
    """The chain runs once for the name."""
    with serve(block("burst 1000")) as server:
        (handler,) = server.plugins(RateLimit)
        for _ in range(5):
            assert server.ask("www.test.").rr
        pipeline = next(iter(server.server.endpoints.values())).listener("udp").pipeline
        assert len(pipeline.packets.entries) == 1
        assert len(handler.gate.rates) >= 1


def test_look_ups_of_the_server_and_other_protocols_are_not_limited():
    (handler,) = set_up("ratelimit 1").handlers
    handler.gate.rates.divide(NEVER)
    for protocol in ("tcp", "tls", "https"):
        for _ in range(3):
            reply = run_chain(make_request("a.", protocol=protocol), handler, Recorder())
            assert reply.rcode == 0
    for _ in range(3):
        request = make_request("a.")
        request.metadata["corepy/lookups"] = 1
        assert run_chain(request, handler, Recorder()).rcode == 0
    rcodes = [run_chain(make_request("a."), handler, Recorder()).rcode for _ in range(2)]
    assert rcodes == [0, 5]


def test_the_size_of_the_table_is_exported():
    with serve(block("size 1\n burst 100")) as server:
        before = UNTRACKED.value
        for last in (7, 8, 8, 9):
            server.ask("www.test.", source=f"127.0.0.{last}")
        server.call(update)
        assert CLIENTS.value == 1
        assert UNTRACKED.value - before >= 3
    update()
    assert CLIENTS.value == 0


def test_explained():
    (handler,) = set_up("ratelimit 3 {\n exempt 192.0.2.0/24\n}").handlers
    handler.gate.rates.divide(NEVER)
    request = make_request("www.test.", peer=("198.51.100.1", 53))
    assert handler.explain_state(request) == {
        "state": "within the limit",
        "limit": "3 queries a second, 3 at once",
        "left": 3,
        "applies to": "queries over UDP",
    }
    for _ in range(4):
        run_chain(request, handler, Recorder())
    assert handler.explain_state(request)["state"] == "over the limit"
    exempt = make_request("www.test.", peer=("192.0.2.9", 53))
    assert handler.explain_state(exempt) == {"state": "exempt client"}


@pytest.mark.parametrize(("processes", "answered"), [(1, 3), (3, 1)])
def test_processes_of_a_server_divide_the_limit(processes, answered):
    (handler,) = set_up("ratelimit 3").handlers
    handler.before_listen(SimpleNamespace(process_group=SimpleNamespace(size=processes)))
    rates = handler.gate.rates
    assert len(rates.over_limit([1] * 9, 0.0)) == 6
    assert len(rates.over_limit([1] * 9, 1.0)) == 9 - answered
    handler.shutdown()


def test_one_client_is_logged_every_ten_seconds(monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr("corepy_ratelimit.limiter.monotonic", lambda: now)
    (handler,) = set_up("ratelimit 3").handlers
    for last in range(5):
        handler.gate.deny((f"192.0.2.{last}", 53), "")
    start = "queries over the limit of 3 a second:"
    lines = [f"{start} 1 since the last line like this one, the last one from 192.0.2.0"]
    assert caplog.messages == lines
    now += 10.0
    handler.gate.deny(("2001:db8::1", 53), "")
    lines += [f"{start} 5 since the last line like this one, the last one from 2001:db8::1"]
    assert caplog.messages == lines
