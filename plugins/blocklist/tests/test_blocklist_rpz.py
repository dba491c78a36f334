"""Response policy zones: reading them, and the rules that they give."""

import contextlib
from ipaddress import ip_address

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply
from corepy.dns.constants import TYPE_A, TYPE_CNAME
from corepy.dns.names import from_text, to_text
from corepy.testing import helper_module, make_request, reply_of
from corepy_blocklist.inspecting import find_in_reply
from corepy_blocklist.rpz import ZoneReader
from corepy_blocklist.rule import CLIENT_IP, RESPONSE_IP, Action, SourceKind
from corepy_blocklist.zone_text import ZoneError, read_records

table_of = helper_module(__file__, "tables").table_of
HEAD = "$TTL 2h\n@ SOA localhost. root.localhost. (\n 7 1h 15m 30d 2h )\n NS localhost.\n"


def zone_table(folder, *texts, head=HEAD, zone=""):
    return table_of(folder, *(head + text for text in texts), kind=SourceKind.RPZ, zone=zone)


def action_at(table, name):
    rule = table.find(from_text(name))
    return None if rule is None else rule.action


@pytest.mark.parametrize(
    ("target", "action"),
    [
        (".", Action.NXDOMAIN),
        ("*.", Action.NODATA),
        ("rpz-passthru.", Action.PASSTHRU),
        ("RPZ-Drop.", Action.DROP),
        ("rpz-tcp-only.", Action.TCP_ONLY),
        ("bad.example.", Action.PASSTHRU),
        ("garden.example.", Action.LOCAL_DATA),
        ("*.garden.example.", Action.LOCAL_DATA),
        ("rpz-unknown.", None),
    ],
)
@pytest.mark.parametrize(
    "line", ["{} CNAME {}", "{}\t300\tIN\tCNAME\t{} ; comment", "{} cname ({})"]
)
def test_the_target_is_the_action(tmp_path, target, action, line):
    table = zone_table(tmp_path, line.format("bad.example", target) + "\n")
    assert table.files[0]["problem"] == ""
    assert action_at(table, "bad.example.") == action
    assert action_at(table, "www.bad.example.") is None
    assert table.files[0]["serial"] == 7
    assert table.files[0]["unsupported"] == (
        {"action rpz-unknown": [1, 5]} if action is None else {}
    )


def test_wildcards_cover_the_names_below(tmp_path):
    table = zone_table(
        tmp_path,
        "*.bad.example CNAME .\n"
        "fine.bad.example CNAME rpz-passthru.\n"
        "*.deep.bad.example CNAME *.\n"
        "www.deep.bad.example CNAME rpz-drop.\n",
    )
    assert {
        name: action_at(table, f"{name}.example.")
        for name in ("bad", "a.bad", "fine.bad", "x.fine.bad", "deep.bad", "a.deep.bad")
    } == {
        "bad": None,
        "a.bad": Action.NXDOMAIN,
        "fine.bad": Action.PASSTHRU,
        "x.fine.bad": None,
        "deep.bad": Action.NXDOMAIN,
        "a.deep.bad": Action.NODATA,
    }
    assert action_at(table, "www.deep.bad.example.") == Action.DROP
    everything = zone_table(tmp_path, "* CNAME .\nfine.example CNAME rpz-passthru.\n")
    assert action_at(everything, "a.") == action_at(everything, "a.b.c.") == Action.NXDOMAIN
    assert action_at(everything, "fine.example.") == Action.PASSTHRU


def test_an_earlier_zone_precedes_a_closer_name_of_a_later_one(tmp_path):
    first, second = "*.example CNAME rpz-passthru.\n", "bad.example CNAME .\nmore.test CNAME .\n"
    table = zone_table(tmp_path, first, second)
    assert action_at(table, "bad.example.") == Action.PASSTHRU
    assert action_at(table, "more.test.") == Action.NXDOMAIN
    assert action_at(zone_table(tmp_path, second, first), "bad.example.") == Action.NXDOMAIN


@pytest.mark.parametrize(
    ("owner", "inside", "outside"),
    [
        ("32.1.2.0.192", "192.0.2.1", "192.0.2.2"),
        ("24.0.2.0.192", "192.0.2.255", "192.0.3.0"),
        ("8.0.0.0.10", "10.255.0.1", "11.0.0.0"),
        ("128.1.zz.db8.2001", "2001:db8::1", "2001:db8::2"),
        ("48.zz.1.db8.2001", "2001:db8:1:ffff::", "2001:db8:2::"),
        ("128.4.3.2.1.0.0.db8.2001", "2001:db8:0:0:1:2:3:4", "2001:db8:0:0:1:2:3:5"),
        ("128.zz.1", "1::", "1::1"),
        ("1.zz.8000", "ffff::", "7fff::"),
        ("128.0.zz", "::", "::1"),
    ],
)
@pytest.mark.parametrize(("label", "kind"), [("rpz-ip", RESPONSE_IP), ("rpz-client-ip", CLIENT_IP)])
def test_networks(tmp_path, owner, inside, outside, label, kind):
    table = zone_table(tmp_path, f"{owner}.{label} CNAME .\n")
    assert table.files[0]["problem"] == ""
    assert table.find_address(kind, ip_address(inside).packed).action == Action.NXDOMAIN
    assert table.find_address(kind, ip_address(outside).packed) is None
    assert table.first_of == {kind: 1}


def test_the_longest_prefix_of_the_first_zone_decides(tmp_path):
    first = "24.0.2.0.192.rpz-ip CNAME .\n32.5.2.0.192.rpz-ip CNAME rpz-passthru.\n"
    table = zone_table(tmp_path, first, "32.1.2.0.192.rpz-ip CNAME *.\n")
    found = {
        text: table.find_address(RESPONSE_IP, ip_address(f"192.0.2.{text}").packed).action
        for text in (1, 5)
    }
    assert found == {1: Action.NXDOMAIN, 5: Action.PASSTHRU}


def test_name_servers(tmp_path):
    table = zone_table(
        tmp_path, "ns.bad.example.rpz-nsdname CNAME .\n*.worse.example.rpz-nsdname CNAME *.\n"
    )
    found = {
        name: (rule := table.find_name_server(from_text(name))) and rule.action
        for name in ("ns.bad.example.", "bad.example.", "worse.example.", "a.worse.example.")
    }
    assert list(found.values()) == [Action.NXDOMAIN, None, None, Action.NODATA]
    assert table.find(from_text("ns.bad.example.")) is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("32.2.2.0.192.rpz-ip CNAME *.\n24.0.2.0.192.rpz-ip CNAME .\n", Action.NODATA),
        ("32.1.2.0.192.rpz-ip CNAME *.\n32.2.2.0.192.rpz-ip CNAME .\n", Action.NODATA),
        ("ns.b.example.rpz-nsdname CNAME .\nns.a.example.rpz-nsdname CNAME *.\n", Action.NODATA),
        ("ns.b.example.rpz-nsdname CNAME .\n8.0.0.0.192.rpz-ip CNAME *.\n", Action.NODATA),
    ],
)
def test_one_of_several_rules_for_a_reply(tmp_path, rules, expected):
    """The draft, section 5: the longest prefix, then the smallest address or name."""
    request = make_request("x.example")
    records = ["x.example. 60 A 192.0.2.2", "x.example. 60 A 192.0.2.1"]
    servers = ["example. 60 NS ns.b.example.", "example. 60 NS ns.a.example."]
    wire = reply_of(dnslib.DNSRecord.parse(request.wire), records, servers)
    found = find_in_reply(
        zone_table(tmp_path, rules), request, Reply.from_wire(wire), None, inspects_aliases=True
    )
    assert found.action == expected


def test_local_data(tmp_path):
    table = zone_table(
        tmp_path,
        "bad.example 30 A 192.0.2.1\n 40 A 192.0.2.2\nother.example CNAME .\n"
        "alias.example A 192.0.2.3\nalias.example 50 CNAME *.garden.example.\n",
    )
    rule = table.find(from_text("bad.example."))
    records = [(it.rtype, it.ttl, it.rdata) for it in table.records(rule)]
    assert records == [(TYPE_A, 30, b"\xc0\0\2\1"), (TYPE_A, 40, b"\xc0\0\2\2")]
    assert (table.line_of(rule), table.has_aliases) == (5, True)
    (alias,) = table.records(table.find(from_text("alias.example.")))
    assert alias == (TYPE_CNAME, 50, from_text("*.garden.example."))
    again = zone_table(tmp_path, "x.example ( broken", "fine.example CNAME .\n")
    assert again.files[0]["problem"]
    kept = table_of(tmp_path, "broken (", kind=SourceKind.RPZ, previous=table)
    rule = kept.find(from_text("bad.example."))
    assert (kept.line_of(rule), len(kept.records(rule))) == (5, 2)
    assert kept.files[0]["is_kept"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bad.example CNAME\n", "line 5: "),
        ("fine.example CNAME .\nbad.example WRONG .\n", "line 6: "),
        ("fine.example A 192.0.2.1\n\n\nbad.example A 192.0.2.256\n", "line 8: "),
        ("33.1.2.0.192.rpz-ip CNAME .\n", "line 5: '33.1.2.0.192.rpz-ip': the prefix length"),
        ("0.0.0.0.0.rpz-ip CNAME .\n", "line 5: '0.0.0.0.0.rpz-ip': the prefix length"),
        ("24.1.2.0.192.rpz-ip CNAME .\n", "line 5: '24.1.2.0.192.rpz-ip': the address has bits"),
        ("32.1.2.192.rpz-ip CNAME .\n", "not an address in reverse order"),
        ("32.1.2.0.300.rpz-ip CNAME .\n", "not an IPv4 address in reverse order"),
        ("128.zz.1.zz.rpz-ip CNAME .\n", "not an address in reverse order"),
        ("128.zzz.1.1.1.1.1.1.1.rpz-ip CNAME .\n", "not an IPv6 address in reverse order"),
        ("rpz-ip CNAME .\n", "no address precedes it"),
        ("bad.example. CNAME .\n", None),
        ("$INCLUDE other\n", "line 5: directive $INCLUDE is not supported"),
        ("bad.example CNAME . (\n", "line 6: "),
    ],
    ids=lambda text: repr(text)[1:30],
)
def test_a_malformed_zone_is_broken_as_a_whole(tmp_path, text, problem):
    zone = "rpz.example." if problem is None else ""
    table = zone_table(tmp_path, text, zone=zone)
    found = table.files[0]["problem"]
    if problem is None:
        assert found == "line 5: the record is outside of the zone"
    else:
        assert problem in found
    assert table.count == 0


@pytest.mark.parametrize(
    ("head", "zone"),
    [
        ("$ORIGIN rpz.example.\n@ SOA a. b. 1 2 3 4 5\n", ""),
        ("rpz.example. SOA a. b. 1 2 3 4 5\n$ORIGIN rpz.example.\n", ""),
        ("RPZ.example. 60 IN SOA a. b. 1 2 3 4 5\n$ORIGIN Rpz.Example.\n", ""),
        ("@ SOA a. b. 1 2 3 4 5\n", ""),
        ("@ SOA a. b. 1 2 3 4 5\n", "rpz.example."),
        ("", ""),
        ("", "rpz.example."),
    ],
)
def test_the_zone_of_a_file(tmp_path, head, zone):
    table = zone_table(tmp_path, "bad.example CNAME .\n", head=head, zone=zone)
    assert table.files[0]["problem"] == ""
    assert action_at(table, "bad.example.") == Action.NXDOMAIN


def test_what_has_no_effect_is_ignored_or_counted(tmp_path):
    table = zone_table(
        tmp_path,
        "32.1.2.0.192.rpz-nsip CNAME .\n33.1.rpz-nsip CNAME .\nx.rpz-new CNAME .\n"
        "bad.example DNAME other.example.\nbad.example CH TXT x\nbad.example NS a.\n",
    )
    assert table.files[0]["unsupported"] == {"trigger rpz-nsip": [2, 5], "trigger rpz-new": [1, 7]}
    assert table.count == 0


TEXT = st.text('ab1.@*$()";\\ \n\t', max_size=20) | st.sampled_from(
    ["CNAME", ".", "*.", "rpz-ip", ".rpz-ip", "SOA", "32.1.2.0.192", "A", "$TTL ", "\n"]
)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=12).map(" ".join))
def test_no_text_raises_anything_else(text):
    zone = from_text("rpz.example.")
    with contextlib.suppress(ZoneError):
        for _, trigger, _, records in ZoneReader(zone).read(read_records(text, zone)):
            assert trigger.key[0] >= CLIENT_IP or from_text(to_text(trigger.key)) == trigger.key
            assert all(isinstance(it.rdata, bytes) for it in records)
