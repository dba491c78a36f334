"""Record sets of the API as records, in the shapes of the published examples."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.dns.presentation import rdata_to_text
from corepy.http.http_client import parse_url
from corepy.testing import helper_module
from corepy.zone.polled_api import PolledZone, PollError, ZoneIntake
from corepy.zone.polled_records import HostedRecords
from corepy_azure.client import HostedZone, path_of_link, read_page
from corepy_azure.record_sets import add_record_set

QUIET = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
api = helper_module(__file__, "azure_api")
SOA = "example.org. 3600 SOA ns1-06.azure-dns.com. azuredns-hostmaster.microsoft.com. 1 3600 300"


def listed(*sets, origin="example.org", zone="example.org", soa=True):
    """The records of a list but for the SOA record, and what is refused."""
    intake = ZoneIntake(PolledZone(from_text(origin), "rg/dnsZones/example.org"))
    records = HostedRecords(intake)
    for document in (*sets, *([api.soa(zone)] if soa else [])):
        add_record_set(document, zone, records)
    records.finish()
    lines = [
        f"{to_text(it.owner)} {it.ttl} {c.type_name(it.rtype)} {rdata_to_text(it.rtype, it.rdata)}"
        for it in intake.build()
    ]
    return lines[1:], list(intake.refused)


PRIVATE = {
    "name": "recorda",
    "type": "Microsoft.Network/privateDnsZones/A",
    "properties": {
        "aRecords": [{"ipv4Address": "1.2.3.4"}],
        "fqdn": "recorda.example.org.",
        "isAutoRegistered": True,
        "ttl": 3600,
    },
}


@pytest.mark.parametrize(
    ("document", "records"),
    [
        pytest.param(PRIVATE, ["recorda.example.org. 3600 A 1.2.3.4"], id="private"),
        pytest.param(
            api.a("www", "192.0.2.1", "192.0.2.2"),
            ["www.example.org. 300 A 192.0.2.1", "www.example.org. 300 A 192.0.2.2"],
            id="A",
        ),
        pytest.param(
            api.record_set("w", "AAAA", AAAARecords=[{"ipv6Address": "2001:db8::1"}]),
            ["w.example.org. 300 AAAA 2001:db8::1"],
            id="AAAA",
        ),
        pytest.param(
            api.record_set(
                "@", "CAA", caaRecords=[{"flags": 0, "tag": "issue", "value": 'ca.test; "x"'}]
            ),
            ['example.org. 300 CAA 0 issue "ca.test; \\"x\\""'],
            id="CAA",
        ),
        pytest.param(
            api.record_set("alias", "CNAME", CNAMERecord={"cname": "contoso.com"}),
            ["alias.example.org. 300 CNAME contoso.com."],
            id="CNAME",
        ),
        pytest.param(
            api.record_set(
                "child",
                "DS",
                DSRecords=[
                    {
                        "keyTag": 60485,
                        "algorithm": 5,
                        "digest": {
                            "algorithmType": 1,
                            "value": "2BB183AF5F22588179A53B0A98631FAD1A292118",
                        },
                    }
                ],
            ),
            ["child.example.org. 300 DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"],
            id="DS",
        ),
        pytest.param(
            api.record_set("m", "MX", MXRecords=[{"preference": 0, "exchange": "mail.test"}]),
            ["m.example.org. 300 MX 0 mail.test."],
            id="MX",
        ),
        pytest.param(
            api.record_set(
                "n",
                "NAPTR",
                NAPTRRecords=[
                    {
                        "order": 100,
                        "preference": 10,
                        "flags": "u",
                        "services": "E2U+sip",
                        "regexp": "!^.*$!sip:user@example.com!",
                        "replacement": "",
                    }
                ],
            ),
            ['n.example.org. 300 NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:user@example.com!" .'],
            id="NAPTR",
        ),
        pytest.param(
            api.record_set("@", "NS", NSRecords=[{"nsdname": "ns1-06.azure-dns.com."}]),
            ["example.org. 300 NS ns1-06.azure-dns.com."],
            id="NS",
        ),
        pytest.param(
            api.record_set("1", "PTR", PTRRecords=[{"ptrdname": "www.test"}]),
            ["1.example.org. 300 PTR www.test."],
            id="PTR",
        ),
        pytest.param(
            api.record_set(
                "_sip._tcp",
                "SRV",
                SRVRecords=[{"priority": 1, "weight": 10, "port": 5269, "target": "srv.test."}],
            ),
            ["_sip._tcp.example.org. 300 SRV 1 10 5269 srv.test."],
            id="SRV",
        ),
        pytest.param(
            api.record_set(
                "_443._tcp",
                "TLSA",
                TLSARecords=[
                    {"usage": 3, "selector": 1, "matchingType": 1, "certAssociationData": "6EC8"}
                ],
            ),
            ["_443._tcp.example.org. 300 TLSA 3 1 1 6EC8"],
            id="TLSA",
        ),
        pytest.param(
            api.record_set("t", "TXT", TXTRecords=[{"value": ["a b", 'c"d\\', "é", ""]}]),
            ['t.example.org. 300 TXT "a b" "c\\"d\\\\" "\\195\\169" ""'],
            id="TXT",
        ),
        pytest.param(
            api.record_set("*", "TXT", TXTRecords=[{"value": ["x" * 300]}]),
            [f'*.example.org. 300 TXT "{"x" * 255}" "{"x" * 45}"'],
            id="a long TXT",
        ),
        pytest.param(
            {"name": "old", "properties": {"TTL": 1, "ARecords": [{"ipv4Address": "192.0.2.1"}]}},
            ["old.example.org. 1 A 192.0.2.1"],
            id="without fqdn",
        ),
        pytest.param(
            {"name": "@", "properties": {"TTL": 1, "ARecords": [{"ipv4Address": "192.0.2.1"}]}},
            ["example.org. 1 A 192.0.2.1"],
            id="the apex without fqdn",
        ),
        pytest.param(api.record_set("e", "A", ARecords=[]), [], id="empty"),
    ],
)
def test_each_type(document, records):
    assert listed(document) == (records, [])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "example.org ?: the record set is not a JSON object"),
        ({"properties": {"TTL": 1, "NSRecords": []}}, "example.org ?: the record set has no name"),
        ({"name": 3, "properties": {"fqdn": 3}}, "example.org ?: the record set has no name"),
        (
            api.record_set("a", "A", targetResource={"id": "/subscriptions/s/x"}),
            "a.example.org A: it is an alias of a resource of Azure, whose records the API",
        ),
        (
            api.record_set("a", "A", trafficManagementProfile={"id": "/subscriptions/s/x"}),
            "a.example.org A: it is an alias of a resource of Azure, whose records the API",
        ),
        (api.record_set("a", "YOLO"), "a.example.org YOLO: this type of records is not known"),
        (api.record_set("a", "A", ARecords=[{}]), "a.example.org A: ipv4Address is missing"),
        (api.record_set("a", "A", ARecords=["x"]), "a.example.org A: ipv4Address is missing"),
        (api.record_set("a", "A", ARecords=[{"ipv4Address": "x"}]), "a.example.org A: "),
        (
            api.record_set("a", "A", ttl=True, ARecords=[{"ipv4Address": "192.0.2.1"}]),
            "a.example.org A: the TTL is missing",
        ),
        (
            api.record_set("a", "A", ttl=1 << 31, ARecords=[{"ipv4Address": "192.0.2.1"}]),
            "a.example.org. A: the TTL 2147483648 is out of range",
        ),
        (
            api.record_set("a", "MX", MXRecords=[{"preference": "1", "exchange": "m"}]),
            "a.example.org MX: preference is missing",
        ),
        (
            api.record_set("a", "CNAME", CNAMERecord={"cname": "a..b"}),
            "a.example.org CNAME: empty label in name 'a..b'",
        ),
        (api.record_set("a", "TXT", TXTRecords=[{"value": "x"}]), "a.example.org TXT: value is"),
        (
            api.record_set("a", "TXT", TXTRecords=[{"value": ["\ud800"]}]),
            "a.example.org TXT: 'utf-8' codec can't encode character",
        ),
        (api.record_set("\ud800", "NS", NSRecords=[{"nsdname": "n."}]), "?.example.org NS: "),
        (api.record_set("a" * 64, "A", ARecords=[{"ipv4Address": "192.0.2.1"}]), "aaaa"),
        (
            api.record_set("a", "DS", DSRecords=[{"keyTag": 1, "algorithm": 5}]),
            "a.example.org DS: algorithmType is missing",
        ),
    ],
)
def test_an_unusable_set_costs_only_itself(document, reason):
    records, refused = listed(document, api.a("www", "192.0.2.1"))
    assert records == ["www.example.org. 300 A 192.0.2.1"]
    (line,) = refused
    assert line.startswith(reason)


def test_a_part_of_a_zone():
    """The zone in the Corefile may be below the hosted zone, as in CoreDNS."""
    records, refused = listed(
        *(api.a("a.sub", "192.0.2.1"), api.a("b", "192.0.2.2")), origin="sub.example.org"
    )
    assert (records, refused) == (["a.sub.example.org. 300 A 192.0.2.1"], [])


def test_another_zone_would_deny_all_names():
    with pytest.raises(PollError, match=r"has the records of example.org., not of example.com."):
        listed(origin="example.com")
    with pytest.raises(PollError, match="no SOA record"):
        listed(soa=False)


def adder():
    return HostedRecords(ZoneIntake(PolledZone(from_text("example.org"), "x")))


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (b"", "ends early"),
        (b"<html>", "unexpected '<'"),
        (b"[]", "unexpected"),
        (b'{"value": [', "ends early"),
        (b'{"value": [{"a": 1}, {', "Expecting"),
        (b'{"value": []} x', "unexpected 'x'"),
        (b"\xff\xfe", "decode"),
        (b'{"value": ' + b"[" * 200_000, ""),
        (b'{"value": [], "nextLink": 3}', "nextLink is not a text"),
    ],
)
def test_a_malformed_page(page, problem):
    with pytest.raises(PollError, match="the response is not a list of records: ") as error:
        read_page(page, "example.org", adder())
    assert problem in str(error.value)


def test_the_end_of_the_pages():
    assert read_page(b'{"value": [], "nextLink": null}', "z", adder()) == ""
    assert read_page(b'{"value": [], "nextLink": "https://x/y"}', "z", adder()) == "https://x/y"
    assert read_page(b'{"value": [], "nextLink": ""}', "z", adder()) == ""


MANAGER = parse_url("https://management.azure.com")


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("https://management.azure.com/a/b?c=d&$skipToken=e%2F", "/a/b?c=d&$skipToken=e%2F"),
        ("https://MANAGEMENT.azure.com:443/a", "/a"),
    ],
)
def test_the_next_page_is_of_the_same_server(link, path):
    assert path_of_link(link, MANAGER) == path


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/a",
        "http://management.azure.com/a",
        "https://management.azure.com:8443/a",
        "https://management.azure.com@evil.example/a",
        "https://management.azure.com.evil.example/",
        "//evil.example/a",
        "/subscriptions/x",
        "https://management.azure.com/a b",
        "https://management.azure.com/\r\nX: y",
        "file:///etc/passwd",
        "https://[",
        f"https://management.azure.com/{'a' * 20_000}",
    ],
)
def test_no_other_server_gets_the_token(link):
    with pytest.raises(PollError, match="the link to the next page"):
        path_of_link(link, MANAGER)


def test_a_path_has_no_unescaped_part_of_the_corefile():
    hosted = HostedZone.of("r g/dnsZones/0/25.2.0.192.in-addr.arpa")
    assert hosted == ("r g", "dnsZones", "0/25.2.0.192.in-addr.arpa")
    assert hosted.path("../s?x") == (
        "/subscriptions/..%2Fs%3Fx/resourceGroups/r%20g/providers/Microsoft.Network/dnsZones"
        "/0%2F25.2.0.192.in-addr.arpa/recordsets"
    )


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
MEMBERS = st.sampled_from(
    ["TTL", "fqdn", "ARecords", "caaRecords", "CNAMERecord", "SOARecord", "TXTRecords", "NSRecords"]
)
FIELDS = st.sampled_from(["ipv4Address", "value", "cname", "host", "email", "tag", "flags"])
RECORDS = st.dictionaries(FIELDS, JSON | st.lists(JSON, max_size=2), max_size=3)
PROPERTIES = st.dictionaries(MEMBERS, RECORDS | st.lists(RECORDS, max_size=2) | JSON, max_size=3)
SETS = st.fixed_dictionaries({"name": JSON, "properties": PROPERTIES}) | JSON


@QUIET
@given(st.lists(SETS, max_size=3))
def test_any_json_is_read_or_refused(sets):
    page = json.dumps({"value": sets, "nextLink": "https://x/"}).encode()
    assert read_page(page, "example.org", adder()) == "https://x/"


@QUIET
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        read_page(b'{"value": [' + data, "example.org", adder())
    except PollError:
        pass
