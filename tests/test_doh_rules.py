"""DNS over HTTPS without HTTP: which requests are queries, and what the responses say.

The cases are those of plugin/pkg/doh/doh_test.go and core/dnsserver/server_https_test.go, and those
of RFC 8484.
"""

import base64

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.plugin import metrics
from corepy.server.listen.http import doh
from corepy.testing import query, reply_of

QUERY = query("www.example.org.", id=0)
REPLY = QUERY[:2] + b"\x80" + QUERY[3:]


def base64url(message):
    return base64.urlsafe_b64encode(message).decode().rstrip("=")


TEXT = base64url(QUERY)


def get(target):
    request = doh.DoHRequest("GET", target, ())
    return request.message() or request.status


def post(*pieces, method="POST", target="/dns-query"):
    request = doh.DoHRequest(method, target, (("content-type", "text/plain"),))
    for piece in pieces:
        request.receive(piece)
    return request.message() or request.status


@pytest.mark.parametrize(
    "target",
    [
        f"/dns-query?dns={TEXT}",
        f"/dns-query?a=b&dns={TEXT}&c",
        f"/dns-query?dns=%41{TEXT[1:]}",
        f"/dns-query?%64ns={TEXT}",
        f"/dns%2Dquery?dns={TEXT}",
        f"https://dns.example/dns-query?dns={TEXT}",
        f"HTTP://dns.example:443/dns-query?dns={TEXT}",
    ],
)
def test_the_query_of_a_get_request(target):
    assert get(target) == QUERY


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 404),
        ("", 404),
        ("*", 404),
        (f"/dns-query/?dns={TEXT}", 404),
        (f"/DNS-query?dns={TEXT}", 404),
        (f"/other?dns={TEXT}", 404),
        ("https://dns.example", 404),
        ("/dns-query", 400),
        ("/dns-query?", 400),
        ("/dns-query?dns=", 400),
        (f"/dns-query?Dns={TEXT}", 400),
        (f"/dns-query?dns={TEXT}&dns={TEXT}", 400),
        (f"/dns-query?dns={TEXT}&%64ns={TEXT}", 400),
        (f"/dns-query?dns={base64url(QUERY + b'a')}==", 400),
        ("/dns-query?dns=AAAB AAAB", 400),
        ("/dns-query?dns=AAAB*", 400),
        ("/dns-query?dns=AA+A", 400),
        ("/dns-query?dns=AAAAA", 400),
        ("/dns-query?dns=%ff", 400),
        (f"/dns-query?dns={base64url(QUERY[:11])}", 400),
        (f"/dns-query?dns={base64url(REPLY)}", 400),
        (f"/dns-query?dns={'A' * 87384}", 400),
    ],
)
def test_a_get_request_without_a_query(target, status):
    assert get(target) == status


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([QUERY], QUERY),
        ([QUERY[:5], b"", QUERY[5:]], QUERY),
        ([QUERY + bytes(65536 - len(QUERY))], QUERY + bytes(65536 - len(QUERY))),
        ([], 400),
        ([QUERY[:11]], 400),
        ([QUERY, bytes(65537 - len(QUERY))], 400),
        ([bytes(65537), QUERY], 400),
        ([REPLY], 400),
    ],
)
def test_the_query_of_a_post_request(pieces, expected):
    assert post(*pieces) == expected


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "post", ""])
def test_other_methods_carry_no_query(method):
    assert post(QUERY, method=method, target=f"/dns-query?dns={TEXT}") == 400


def test_a_refused_request_holds_no_content():
    request = doh.DoHRequest("POST", "/other", ())
    request.receive(bytes(100))
    assert (request.status, request._content) == (404, [])


@given(st.text(), st.binary(max_size=40))
def test_any_target_is_a_query_or_refused(text, message):
    assert get(text) in (404, 400) or doh.is_query(get(text))
    found = get("/dns-query?dns=" + base64url(message))
    assert found == (message if doh.is_query(message) else 400)


SOA = "example.org. {} IN SOA ns.example.org. a.example.org. 1 2 3 4 {}"


@pytest.mark.parametrize(
    ("answer", "authority", "rcode", "age"),
    [
        (["www.example.org. 60 IN A 192.0.2.1"], [], 0, 60),
        (["www.example.org. 60 IN A 192.0.2.1", "www.example.org. 20 IN A 192.0.2.2"], [], 0, 20),
        (["www.example.org. 60 IN A 192.0.2.1"], ["example.org. 30 IN NS ns.example.org."], 0, 30),
        (["www.example.org. 7200 IN A 192.0.2.1"], [], 0, 3600),
        (["www.example.org. 0 IN A 192.0.2.1"], [], 0, 0),
        ([], [SOA.format(40, 10)], 0, 40),
        ([], [SOA.format(40, 10)], 3, 40),
        ([], ["example.org. 30 IN NS ns.example.org."], 0, 5),
        ([], [], 0, 5),
        ([], [], 3, 5),
        (["www.example.org. 60 IN A 192.0.2.1"], [], 2, 5),
        ([], [SOA.format(40, 10)], 5, 5),
    ],
)
def test_a_response_may_be_cached_for_its_least_ttl(answer, authority, rcode, age):
    asked = dnslib.DNSRecord.parse(QUERY)
    reply = reply_of(asked, answer, authority, rcode=rcode)
    assert doh.max_age(reply) == age


def test_a_reply_that_cannot_be_read_may_be_cached_for_a_short_time():
    assert doh.max_age(QUERY[:6] + b"\0\1" + QUERY[8:]) == 5


@pytest.mark.parametrize("rcode", [0, 2, 3, 5, 16])
def test_any_reply_of_a_plugin_is_a_success(rcode):
    reply = QUERY[:3] + bytes((rcode & 15,)) + QUERY[4:]
    response = doh.response(QUERY, reply)
    assert (response.status, response.content) == (200, reply)
    fields = dict(response.fields)
    assert fields["content-type"] == "application/dns-message"
    assert fields["content-length"] == str(len(reply))
    assert fields["cache-control"] == "max-age=5"


def test_formerr_of_a_plugin_is_a_success_and_that_of_the_server_is_not():
    refused = QUERY[:3] + b"\1" + QUERY[4:]
    assert doh.response(QUERY, refused).status == 200
    update = QUERY[:2] + b"\x28" + QUERY[3:]
    assert doh.response(update, update[:3] + b"\4" + update[4:]).status == 400
    without_question = QUERY[:4] + bytes(8)
    assert doh.response(without_question, without_question[:3] + b"\1" + bytes(8)).status == 400


@pytest.mark.parametrize(
    ("status", "content"), [(404, b"\n"), (400, b"invalid request\n"), (500, b"No response\n")]
)
def test_a_refusal_is_text(status, content):
    response = doh.refusal(status)
    fields = dict(response.fields)
    assert (response.status, response.content) == (status, content)
    assert fields["content-type"] == "text/plain; charset=utf-8"
    assert "cache-control" not in fields


def test_a_dropped_query_is_an_error_of_the_server():
    assert doh.response(QUERY, b"").status == 500


def test_the_date_is_that_of_http(monkeypatch):
    monkeypatch.setattr(doh.time, "time", lambda: 784111777.9)
    assert doh.date() == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_responses_are_counted_by_status():
    metric = metrics.counter("test_doh_responses_total", "Test.", ("server", "status"))
    counter = doh.ResponseCounter(metric, "https://:1")
    counter[200].inc()
    counter[200].inc()
    counter[404].inc()
    assert metric.labels("https://:1", "200").value == 2
    assert metric.labels("https://:1", "404").value == 1


@given(st.binary(min_size=12, max_size=100))
def test_any_reply_has_an_age(reply):
    assert 0 <= doh.max_age(reply) <= 3600
