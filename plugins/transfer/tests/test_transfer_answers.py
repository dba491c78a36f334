"""The answers of *transfer* to AXFR and IXFR queries (plugin/transfer/transfer_test.go)."""

import asyncio
import threading

import pytest

from corepy.dns import Identity, Request
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.rdata import plain_records
from corepy.dns.records import rr
from corepy.dns.series import finish_message
from corepy.dns.tsig import TSIG, TSIGKey
from corepy.plugin import BlockHandlers, ZoneMatcher
from corepy.plugin.server_options import parse_server_address
from corepy.testing import Recorder, helper_module, link, make_request, set_up, until
from corepy_transfer import journals
from corepy_transfer import transfer as transfer_module
from corepy_transfer.journal import change_of
from corepy_transfer.rule import Rule
from corepy_transfer.transfer import Transfer, client_serial

zones = helper_module(__file__, "transfer_zones")
Foreign, Zones = zones.Foreign, zones.Zones
a_record, soa_record, wire = zones.a_record, zones.soa_record, zones.wire

ALL = Rule(ZoneMatcher(["."]), allows_all=True)


def chain(*sources, rules=(ALL,)):
    """*transfer* above the sources and a recorder."""
    handlers = BlockHandlers()
    transfer = Transfer(rules, handlers)
    below = Recorder(lambda request: request.error(c.NXDOMAIN))
    handlers.complete([("transfer", transfer), *(("zones", it) for it in sources)])
    link([transfer, below])
    return transfer, below


def ask(transfer, name="example.org.", qtype="AXFR", protocol="tcp", serial=None, **options):
    """The messages of the reply: lists of records."""
    request = make_request(name, qtype, protocol=protocol, **options)
    if serial is not None:
        request = with_soa(request, soa_record(name, serial))
    return messages(transfer, request)


def with_soa(request, *records):
    """A copy of a request with records in the authority section."""
    wire = request.wire
    number = len(records).to_bytes(2, "big")
    changed = Request.from_wire(wire[:8] + number + wire[10:] + b"".join(records))
    changed.context, changed.client = request.context, request.client
    return changed


def messages(transfer, request):
    reply = transfer.begin_dns(request)
    if hasattr(reply, "__await__"):
        reply = asyncio.run(await_it(reply))
    if reply.series is None:
        return reply.wire[3] & 15, [list(plain_records(reply.wire, 1))]
    made = reply.series.take()
    found = asyncio.run(collect(made)) if hasattr(made, "__aiter__") else list(made)
    for message in found:
        assert message.aa
        assert len(finish_message(request, message)) <= c.MAX_SIZE
    return 0, [list(plain_records(message.wire, 1)) for message in found]


async def await_it(awaitable):
    return await awaitable


async def collect(iterable):
    return [item async for item in iterable]


@pytest.mark.parametrize("name", ["example.org.", "eXample.ORG."])
def test_axfr(name):
    source = Zones()
    transfer, _ = chain(Zones("example.com."), source)
    rcode, found = ask(transfer, name)
    lower = [[record.lower() for record in message] for message in found]
    assert (rcode, lower) == (0, [[record.lower() for record in source.whole]])
    assert source.asked == [(from_text("example.org."), None)]


@pytest.mark.parametrize("is_async", [False, True])
def test_axfr_of_another_source(is_async):
    """The zone is that of the first source that has it, and its records are not examined."""
    portions = [[soa_record("example.org.", 1)], [], [b"\1a" + soa_record("example.org.", 1)]]
    source = Foreign("example.org.", portions, is_async)
    transfer, _ = chain(Zones("example.com."), source, Zones())
    assert ask(transfer) == (0, [[portions[0][0], portions[2][0]]])
    assert source.asked == [(from_text("example.org."), None)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_large_zone_is_sent_in_full_messages(is_async):
    hosts = [wire(a_record(f"h{number}.example.org.", number)) for number in range(5000)]
    texts = [rr(from_text("t.example.org."), 16, 60, bytes([200]) * 201)] * 1000
    source = Foreign("example.org.", [hosts, texts], is_async)
    _, found = ask(chain(source)[0])
    assert [record for message in found for record in message] == [*hosts, *texts]
    sizes = [sum(map(len, message)) for message in found]
    assert min(sizes[:-1]) > 60_000
    assert len(sizes) < 8


def test_a_client_that_leaves_ends_the_source():
    ended = []

    def portions():
        try:
            while True:
                yield [soa_record("example.org.", 1)]
        finally:
            ended.append(True)

    source = Foreign("example.org.", portions())
    reply = chain(source)[0].begin_dns(make_request("example.org.", "AXFR", protocol="tcp"))
    messages = reply.series.take()
    next(messages)
    assert ended == []
    messages.close()
    assert ended == [True]


@pytest.mark.parametrize("serial", [1, 2, 5])
def test_ixfr_of_a_client_that_is_up_to_date(serial):
    source = Zones()
    assert ask(chain(source)[0], qtype="IXFR", serial=serial) == (0, [[source.whole[0]]])


def test_ixfr_falls_back_to_the_whole_zone():
    source = Zones()
    source.change(serial=9)
    assert ask(chain(source)[0], qtype="IXFR", serial=3) == (0, [source.whole])


def test_ixfr_with_changes():
    source = Zones(size=10)
    transfer, _ = chain(source)
    new = a_record("new.example.org.", 9)

    async def change():
        source.zones.subscribe(transfer)
        source.change([source.hosts[0]], [new])
        await until(lambda: not transfer._journals._tasks)

    asyncio.run(change())
    old, current = (soa_record("example.org.", it) for it in (1, 2))
    expected = [current, old, wire(source.hosts[0]), current, wire(new), current]
    assert ask(transfer, qtype="IXFR", serial=1) == (0, [expected])
    assert ask(transfer, qtype="IXFR", serial=0) == (0, [source.whole])
    assert ask(transfer) == (0, [source.whole])
    assert ask(transfer, qtype="IXFR", serial=1, protocol="udp") == (0, [[current]])


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("serial", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["udp", "https"])
def test_ixfr_where_a_query_has_one_reply_gets_the_soa_record(serial, protocol, is_async):
    """RFC 1995 section 2; CoreDNS refuses it."""
    source = Zones(size=500)
    if is_async:
        source = Foreign("example.org.", [[], source.whole], is_async)
    answer = ask(chain(source)[0], qtype="IXFR", protocol=protocol, serial=serial)
    assert answer == (0, [[soa_record("example.org.", 1)]])


def test_axfr_over_udp_is_refused():
    source = Zones()
    assert ask(chain(source)[0], protocol="udp") == (c.REFUSED, [[]])
    assert source.asked == []


@pytest.mark.parametrize(
    "records",
    [
        (),
        (soa_record("example.com.", 1),),
        (wire(a_record("example.org.", 1)),),
        (rr(from_text("example.org."), 6, 60, b""),),
    ],
    ids=["none", "another zone", "another type", "empty"],
)
def test_ixfr_without_the_version_of_the_client_is_malformed(records):
    """CoreDNS answers SERVFAIL."""
    request = with_soa(make_request("example.org.", "IXFR", protocol="tcp"), *records)
    assert messages(chain(Zones())[0], request) == (c.FORMERR, [[]])


def test_the_serial_of_a_client_with_a_compressed_record():
    request = make_request("example.org.", "IXFR", protocol="tcp")
    record = soa_record("example.org.", 77).replace(from_text("example.org."), b"\xc0\x0c")
    record = record.replace(b"\0\x3e", b"\0\x24")
    length = len(record) - 12
    record = record[:10] + length.to_bytes(2, "big") + record[12:]
    assert client_serial(with_soa(request, record)) == 77


@pytest.mark.parametrize(("patience", "is_whole"), [(60.0, False), (0.0, True)])
def test_ixfr_waits_for_the_comparison_of_versions(patience, is_whole, monkeypatch):
    def compare(before, after):
        if is_whole:
            release.wait(60)
        return change_of(before, after)

    release = threading.Event()
    monkeypatch.setattr(journals, "change_of", compare)
    monkeypatch.setattr(transfer_module, "PATIENCE", patience)
    source = Zones(size=10)
    transfer, _ = chain(source)
    request = with_soa(make_request("example.org.", "IXFR", protocol="tcp"), source.whole[0])

    async def run():
        source.zones.subscribe(transfer)
        source.change()
        reply = await transfer.begin_dns(request)
        release.set()
        transfer._journals.stop()
        return [record for it in reply.series.take() for record in plain_records(it.wire, 1)]

    found = asyncio.run(run())
    old, current = (soa_record("example.org.", it) for it in (1, 2))
    assert found == (source.whole if is_whole else [current, old, current, current])


@pytest.mark.parametrize("name", ["sub.example.org.", "example.test.", "org."])
@pytest.mark.parametrize("qtype", ["AXFR", "IXFR"])
def test_other_names_go_on(name, qtype):
    rules = [Rule(ZoneMatcher([it]), allows_all=True) for it in ("example.org.", "example.com.")]
    transfer, below = chain(Zones(), rules=rules)
    rcode, _ = ask(transfer, name, qtype, serial=1 if qtype == "IXFR" else None)
    assert (rcode, len(below.requests)) == (c.NXDOMAIN, 1)


@pytest.mark.parametrize(("qtype", "opcode"), [("A", 0), ("SOA", 0), ("ANY", 0), ("AXFR", 4)])
def test_other_queries_go_on(qtype, opcode):
    transfer, below = chain(Zones())
    rcode, _ = ask(transfer, qtype=qtype, opcode=opcode)
    assert (rcode, len(below.requests)) == (c.NXDOMAIN, 1)


def test_the_directive_with_the_longest_zone_decides():
    none = Rule(ZoneMatcher(["a.example.org."]), (parse_server_address("192.0.2.1"),))
    for rules in ((ALL, none), (none, ALL)):
        transfer, _ = chain(Zones("a.example.org."), Zones(), rules=rules)
        assert ask(transfer, "a.example.org.")[0] == c.REFUSED
        assert ask(transfer, "example.org.")[0] == 0
        assert transfer.rule_for(from_text("host.a.example.org.")) is none
        assert transfer.rule_for(from_text("other.net.")) is ALL


# -- the client


@pytest.mark.parametrize(
    ("to", "client", "is_allowed"),
    [
        ("*", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1:5353", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.0/24", "192.0.2.2", True),
        ("192.0.2.0/24", "192.0.3.2", False),
        ("192.0.2.0/24", "::ffff:192.0.2.2", True),
        ("2001:db8:0::1", "2001:db8::1", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
    ],
)
@pytest.mark.parametrize("qtype", ["AXFR", "IXFR"])
def test_only_clients_in_the_list_get_the_zone(to, client, is_allowed, qtype):
    (configured,) = set_up(f"transfer example.org {{\n to 198.51.100.1 {to}\n}}").handlers
    source = Zones()
    transfer, below = chain(source, rules=configured.rules)
    serial = 1 if qtype == "IXFR" else None
    rcode, found = ask(transfer, qtype=qtype, serial=serial, peer=(client, 40000))
    assert rcode == (0 if is_allowed else c.REFUSED)
    assert bool(found[0]) == is_allowed == bool(source.asked)
    assert below.requests == []


def test_a_client_without_an_address_is_refused():
    (configured,) = set_up("transfer {\n to 0.0.0.0/0 ::/0\n}").handlers
    transfer, _ = chain(Zones(), rules=configured.rules)
    request = make_request("example.org.", "AXFR", protocol="tcp")
    request.client = b""
    assert messages(transfer, request)[0] == c.REFUSED


KEY = TSIGKey(from_text("a.key."), b"secret")


@pytest.mark.parametrize(
    ("name", "error", "is_allowed"),
    [
        ("a.key.", 0, True),
        ("b.key.", 0, False),
        ("a.key.", 16, False),
        ("a.key.", None, False),
        (None, 0, False),
    ],
)
def test_a_client_needs_a_key(name, error, is_allowed):
    rule = Rule(ZoneMatcher(["."]), allows_all=True, keys=(KEY,))
    transfer, _ = chain(Zones(), rules=[rule])
    request = make_request("example.org.", "AXFR", protocol="tcp")
    if name is not None:
        tsig = TSIG(from_text(name), b"", 0, 0, b"", 0, 0, b"", b"", error)
        request.identity = Identity(tsig=tsig)
    assert messages(transfer, request)[0] == (0 if is_allowed else c.REFUSED)
    state = transfer.explain_state(request)["state"]
    assert state == "allowed" or state.startswith("refused: the query is")
    assert (state == "allowed") is is_allowed


@pytest.mark.parametrize(
    ("name", "qtype", "state"),
    [
        ("example.org.", "A", "passed: not a transfer"),
        ("example.com.", "AXFR", "passed: the name is outside its zones"),
        ("example.org.", "AXFR", "refused: the address of the client is not in the list"),
    ],
)
def test_the_state_for_explain(name, qtype, state):
    (transfer,) = set_up("transfer example.org {\n to 192.0.2.1\n}").handlers
    assert transfer.explain_state(make_request(name, qtype)) == {"state": state}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_source_without_records_is_an_error(is_async):
    transfer, _ = chain(Foreign("example.org.", [[]], is_async))
    with pytest.raises(ValueError, match=r"the source of zone example.org. has no SOA record"):
        ask(transfer, qtype="IXFR", protocol="udp", serial=1)
    assert ask(transfer) == (0, [])
