"""Rules for EDNS options: the tables of plugin/rewrite/rewrite_test.go and edns0_test.go."""

from dataclasses import replace

import dnslib
import pytest

from corepy.dns import finish
from corepy.dns.edns import OPTION_COOKIE, OPTION_NSID, OPTION_SUBNET, option, parse_options
from corepy.testing import Recorder, make_request, query, run_chain, serve, set_up, with_handlers

CODE = 0xFFEE
NSID = [(OPTION_NSID, b"")]
FOOBAR = [(CODE, b"foobar")]
CLIENT = ("10.240.0.1", 40212)
CLIENT6 = ("fe80::42:ff:feca:4c65%eth0", 40212)


def subnet(family, bits, address=b""):
    return [(OPTION_SUBNET, bytes((0, family, bits, 0)) + address)]


def exchange(rules, options=(), *, peer=CLIENT, own=b"", name="example.com.", protocol="udp"):
    """Return the options that reach the next handler, None without EDNS, and those of the reply.

    `options` are the client's, None for one without EDNS. `own` are those of the reply below.
    """
    text = "\n".join(f"rewrite {rule}" for rule in rules)
    controller = set_up(text)
    (handler,) = controller.handlers
    request = make_request(name, peer=peer, protocol=protocol)
    if options is not None:
        request = request.derive(options=b"".join(option(*each) for each in options))
    request.context = replace(request.context, echoed_options=frozenset(controller.echoed_options))
    request.metadata["test/label"] = "my-value"
    request.metadata["test/empty"] = ""

    def answer(asked):
        reply = asked.error(0)
        reply.options = own
        return reply

    below = Recorder(answer)
    message = dnslib.DNSRecord.parse(finish(request, run_chain(request, handler, below)))
    edns = below.requests[0].edns
    sent = [(each.code, bytes(each.data)) for rr in message.ar for each in rr.rdata]
    assert len(message.ar) == (options is not None)
    return (None if edns is None else parse_options(edns.options)), sent


@pytest.mark.parametrize(
    ("rule", "reaches"),
    [
        ("local set 0xffee 0xabcdef", [(CODE, b"\xab\xcd\xef")]),
        ("local append 0xffee abcdefghijklmnop", [(CODE, b"abcdefghijklmnop")]),
        ("local replace 0xffee abcdefghijklmnop", []),
        ("nsid set", NSID),
        ("nsid append", NSID),
        ("nsid replace", []),
        ("local set 0xffee {qname}", [(CODE, b"example.com.")]),
        ("local set 0xffee {qtype}", [(CODE, b"\0\1")]),
        ("local set 0xffee {client_ip}", [(CODE, bytes((10, 240, 0, 1)))]),
        ("local set 0xffee {client_port}", [(CODE, b"\x9d\x14")]),
        ("local set 0xffee {protocol}", [(CODE, b"udp")]),
        ("local set 0xffee {server_port}", [(CODE, b"\0\x35")]),
        ("local set 0xffee {server_ip}", [(CODE, bytes((127, 0, 0, 1)))]),
        ("local set 0xffee {test/label}", [(CODE, b"my-value")]),
        ("local set 0xffee {test/empty}", []),
        ("local set 0xffee {test/does-not-exist}", []),
        ("subnet set 24 56", subnet(1, 24, bytes((10, 240, 0)))),
        ("subnet set 32 56", subnet(1, 32, bytes((10, 240, 0, 1)))),
        ("subnet set 0 56", subnet(1, 0)),
        ("subnet set 9 56", subnet(1, 9, bytes((10, 128)))),
    ],
)
def test_options_that_are_added(rule, reaches):
    """A client without EDNS gets no OPT record back, unlike in CoreDNS."""
    assert exchange([f"edns0 {rule}"])[0] == reaches
    assert exchange([f"edns0 {rule}"], None) == (reaches or None, [])


@pytest.mark.parametrize(
    ("rule", "reaches"),
    [
        ("subnet set 24 56", subnet(2, 56, b"\xfe\x80" + bytes(5))),
        (
            "subnet set 24 128",
            subnet(2, 128, bytes.fromhex("fe8000000000000000 4200fffeca4c65".replace(" ", ""))),
        ),
        ("subnet set 24 0", subnet(2, 0)),
        (
            "local set 0xffee {client_ip}",
            [(CODE, bytes.fromhex("fe80000000000000004200fffeca4c65"))],
        ),
    ],
)
def test_options_for_a_client_with_ipv6(rule, reaches):
    assert exchange([f"edns0 {rule}"], peer=CLIENT6)[0] == reaches


def test_variables_are_those_of_the_changed_query():
    rules = ["continue name Example.com b.example", "continue type A TXT"]
    asked, _ = exchange([*rules, "edns0 local set 1000 {qname}"])
    assert asked == [(1000, b"b.example.")]
    assert exchange([*rules, "edns0 local set 1000 {qtype}"])[0] == [(1000, b"\0\x10")]
    assert exchange(["edns0 local set 1000 {qname}"], name="eXample.com")[0] == [
        (1000, b"eXample.com.")
    ]
    assert exchange(["edns0 local set 1000 {protocol}"], protocol="tls")[0] == [(1000, b"tcp")]


@pytest.mark.parametrize(
    ("rules", "options", "reaches", "returned"),
    [
        (["replace 0xffee abcdef", "set 0xffee fedcba"], [], b"fedcba", b"fedcba"),
        (["replace 0xffee abcdef", "set 0xffee fedcba"], FOOBAR, b"abcdef", b"abcdef"),
        (["replace 0xffee abcdef revert", "set 0xffee fedcba revert"], [], b"fedcba", None),
        (
            ["replace 0xffee abcdef revert", "set 0xffee fedcba revert"],
            FOOBAR,
            b"abcdef",
            b"foobar",
        ),
        (["replace 0xffee {qname}", "set 0xffee {qtype}"], [], b"\0\1", b"\0\1"),
        (
            ["replace 0xffee {qname}", "set 0xffee {qtype}"],
            FOOBAR,
            b"example.com.",
            b"example.com.",
        ),
        (["replace 0xffee {qname} revert", "set 0xffee {qtype} revert"], [], b"\0\1", None),
        (
            ["replace 0xffee {qname} revert", "set 0xffee {qtype} revert"],
            *(FOOBAR, b"example.com.", b"foobar"),
        ),
        (["append 0xffee a"], FOOBAR, b"foobar", b"foobar"),
        (["append 0xffee {qname}"], FOOBAR, b"foobar", b"foobar"),
        (["unset 0xffee"], [], None, None),
        (["unset 0xffee"], FOOBAR, None, None),
        (["unset 0xffed"], FOOBAR, b"foobar", None),
    ],
)
def test_local_options(rules, options, reaches, returned):
    found = exchange([f"stop edns0 local {rule}" for rule in rules], options)
    assert found == tuple([] if data is None else [(CODE, data)] for data in (reaches, returned))


@pytest.mark.parametrize(
    ("rules", "options", "reaches"),
    [
        (["nsid replace", "nsid set"], [], NSID),
        (["nsid replace", "nsid set"], FOOBAR, FOOBAR + NSID),
        (["nsid replace", "nsid set"], [(OPTION_NSID, b"x")], NSID),
        (["nsid replace revert", "nsid set revert"], [], NSID),
        (["nsid replace revert", "nsid set revert"], NSID, NSID),
        (["nsid append"], [(OPTION_NSID, b"x")], [(OPTION_NSID, b"x")]),
        (["nsid unset"], NSID, []),
        (["nsid unset"], [], []),
        (["nsid unset"], FOOBAR + NSID, FOOBAR),
        (["subnet unset"], subnet(1, 0), []),
        (["subnet unset"], [], []),
        (["subnet unset"], FOOBAR + NSID, FOOBAR + NSID),
        (["subnet replace 32 56", "subnet set 0 56"], [], subnet(1, 0)),
        (
            ["subnet replace 32 56", "subnet set 0 56"],
            subnet(1, 0),
            subnet(1, 32, bytes((10, 240, 0, 1))),
        ),
        (["subnet append 32 56"], subnet(1, 0), subnet(1, 0)),
    ],
)
def test_nsid_and_subnet(rules, options, reaches):
    """They are not repeated in replies: NSID is the *nsid* plugin's, a subnet the upstream's."""
    assert exchange([f"stop edns0 {rule}" for rule in rules], options) == (reaches, [])


def test_an_earlier_rule_without_revert_shows_in_the_reply():
    """The example of CoreDNS's README."""
    rules = ["continue edns0 local set 0xffee abcd", "edns0 local replace 0xffee bcde revert"]
    assert exchange(rules) == ([(CODE, b"bcde")], [(CODE, b"abcd")])


@pytest.mark.parametrize(
    ("rule", "options", "own", "returned"),
    [
        ("set 0xffee a revert", [], b"upstream", []),
        ("set 0xffee a revert", FOOBAR, b"upstream", FOOBAR),
        ("set 0xffee a", FOOBAR, b"upstream", [(CODE, b"upstream")]),
    ],
)
def test_the_option_of_an_upstream(rule, options, own, returned):
    assert exchange([f"edns0 local {rule}"], options, own=option(CODE, own))[1] == returned


@pytest.mark.parametrize("client", [subnet(1, 8, b"\x0a"), []])
@pytest.mark.parametrize("rule", ["set 24 56", "set 24 56 revert", "append 24 56"])
def test_a_reply_has_only_the_subnet_of_the_client(rule, client):
    """RFC 7871 section 7.2.1: none if the query had none; section 7.3: no other one."""
    own = option(OPTION_SUBNET, bytes((0, 1, 24, 20, 10, 240, 0)))
    asked, returned = exchange([f"edns0 subnet {rule}"], client, own=own)
    if client and "append" in rule:  # the rule does not apply
        assert (asked, returned) == (client, [(OPTION_SUBNET, own[4:])])
    else:
        assert (asked, returned) == (subnet(1, 24, b"\x0a\xf0\0"), client)


@pytest.mark.parametrize(
    ("rules", "own", "reaches", "returned"),
    [
        (["continue edns0 local unset 0xffee", "edns0 local set 0xffee a revert"], b"", b"a", None),
        (["continue edns0 local unset 0xffee", "edns0 local set 0xffee a"], b"", b"a", b"a"),
        (
            ["continue edns0 local unset 0xffee", "edns0 local set 0xffee a revert"],
            *(b"upstream", b"a", None),
        ),
        (["edns0 local unset 0xffee", "edns0 local set 0xffee a"], b"", None, None),
        (["edns0 local unset 0xffee", "edns0 local set 0xffee a"], b"up", None, b"up"),
        (
            ["continue edns0 local set 0xffee a revert", "edns0 local unset 0xffee"],
            *(b"", None, None),
        ),
        (
            [
                "continue edns0 local set 0xffee a revert",
                "continue edns0 local unset 0xffee",
                "edns0 local set 0xffee b",
            ],
            *(b"", b"b", b"foobar"),
        ),
    ],
)
def test_a_reply_does_not_repeat_an_option_that_was_removed(rules, own, reaches, returned):
    """Another rule registers its code, so the server repeats the client's."""
    own = option(CODE, own) if own else b""
    found = exchange(rules, FOOBAR, own=own)
    assert found == tuple([] if data is None else [(CODE, data)] for data in (reaches, returned))


def test_padding_that_a_rule_removes_is_not_repeated():
    """The server repeats it without a rule that registers its code."""
    (handler,) = set_up("rewrite edns0 local unset 12").handlers
    request = make_request("a.example").derive(options=option(12, bytes(4)) + option(4000, b""))
    reply = run_chain(request, handler, Recorder())
    assert finish(request, reply)[-11:] == request.edns.replace(options=b"").record()


def test_options_of_others_are_kept():
    own = option(OPTION_COOKIE, b"12345678")
    _, returned = exchange(["edns0 local set 0xffee a revert"], own=own)
    assert returned == [(OPTION_COOKIE, b"12345678")]


def test_a_removal_applies_to_queries_without_the_option():
    """As in CoreDNS: `unset` stops."""
    asked, _ = exchange(["edns0 local unset 1000", "edns0 local set 0xffee a"])
    assert asked == []
    asked, _ = exchange(["edns0 local replace 1000 b", "edns0 local set 0xffee a"])
    assert asked == [(CODE, b"a")]


def test_an_option_that_cannot_be_sent_is_a_failure():
    (handler,) = set_up("rewrite edns0 local set 8 abc").handlers
    reply = run_chain(make_request("a.example"), handler, Recorder())
    assert (reply.rcode, reply.error) == (
        2,
        "plugin/rewrite: invalid query after rewrite: malformed EDNS option 8",
    )


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        (f"edns0 local set 1000 {'x' * 60_000}", 60_000),
        (f"edns0 local set 1000 {'x' * 60_000}", 5_600),
        (f"name a.example {'long.' * 40}example", 65_400),
    ],
)
def test_a_query_that_becomes_too_long_is_a_failure(rule, size):
    (handler,) = set_up(f"rewrite {rule}").handlers
    request = make_request("a.example", protocol="tcp").derive(options=option(4000, bytes(size)))
    below = Recorder()
    reply = run_chain(request, handler, below)
    error = "plugin/rewrite: query after rewrite longer than 65535 bytes"
    assert (reply.rcode, reply.error, below.requests) == (2, error, [])


def test_the_longest_query_that_fits():
    (handler,) = set_up(f"rewrite edns0 local set 1000 {'x' * 60_000}").handlers
    request = make_request("a.example", protocol="tcp").derive(options=option(4000, bytes(5_489)))
    below = Recorder()
    assert run_chain(request, handler, below).rcode == 0
    assert len(below.requests[0].wire) == 65_535


def test_repeated_options_do_not_truncate_a_reply():
    rule = f"edns0 local set 0xffee {'a' * 600}"
    (handler,) = set_up(f"rewrite {rule}").handlers
    request = make_request("a.example", edns=512)
    request.context = replace(request.context, echoed_options=frozenset((CODE,)))
    reply = run_chain(request, handler, Recorder())
    assert reply.options == b""


def test_an_option_that_does_not_fit_is_not_replaced_by_that_of_the_client():
    (handler,) = set_up(f"rewrite edns0 local set 0xffee {'a' * 600}").handlers
    request = make_request("a.example", edns=512).derive(options=option(CODE, b"client"))
    request.context = replace(request.context, echoed_options=frozenset((CODE,)))
    assert b"client" not in finish(request, run_chain(request, handler, Recorder()))


def test_a_whole_server():
    text = ". {\n rewrite edns0 local set 0xffee ab revert\n hello\n}\n"
    text += "other.example {\n rewrite edns0 local set 0xffee ab\n hello\n}"
    with serve(text, plugins=with_handlers(hello=Recorder)) as server:
        for name, options in (("a.example", []), ("other.example", [(CODE, b"ab")])):
            message = dnslib.DNSRecord.parse(server.exchange(query(name, edns=1232)))
            assert [(it.code, bytes(it.data)) for it in message.ar[0].rdata] == options
            assert not dnslib.DNSRecord.parse(server.exchange(query(name))).ar
