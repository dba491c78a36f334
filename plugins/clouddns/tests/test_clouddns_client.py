"""The client, with a stub of the API over real sockets."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.dns.presentation import rdata_to_text
from corepy.testing import helper_module
from corepy.testing.tls import CERTIFICATE, SERVER_NAME
from corepy.zone.polled_api import PolledZone, PollError, ZoneIntake, ZoneMissing
from corepy.zone.polled_records import HostedRecords
from corepy_clouddns.client import Client, path_of, read_page
from corepy_clouddns.tokens import Account

QUIET = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
stub = helper_module(__file__, "clouddns_api")
ZONE = PolledZone(from_text("example.org"), "my-project:my-zone")
RRSETS = "/dns/v1/projects/my-project/managedZones/my-zone/rrsets"


@pytest.fixture
def google(monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    with stub.CloudDNSAPI() as server:
        server.put("my-project:my-zone")
        yield server


async def listed(client, zone=ZONE):
    intake = ZoneIntake(zone)
    await client.fetch(zone, intake)
    return intake, intake.build()


def copied(server, zone=ZONE, target=None, **account):
    """List a zone; return the intake and the zone. By default the token is from the machine."""

    async def run():
        account.setdefault("instance", server.target())
        client = Client(Account(target or server.target(), **account))
        try:
            return await listed(client, zone)
        finally:
            client.close()

    return asyncio.run(run())


def failure_of(server, zone=ZONE, target=None):
    """The error of a list, which has no secrets."""
    with pytest.raises(OSError) as error:  # noqa: PT011 - the caller examines it
        copied(server, zone, target)
    text = str(error.value)
    assert stub.TOKEN not in text
    assert "\n" not in text
    return error.value


def lines(zone):
    """The records but for the SOA record."""
    return [
        f"{to_text(it.owner)} {it.ttl} {c.type_name(it.rtype)} {rdata_to_text(it.rtype, it.rdata)}"
        for it in zone
    ][1:]


def test_records(google):
    google.put(
        "my-project:my-zone",
        stub.rrset("example.org.", "NS", "ns-cloud-c1.googledomains.com."),
        stub.rrset("www.example.org.", "A", "192.0.2.1", "192.0.2.2", ttl=5),
        stub.rrset("alias.example.org.", "CNAME", "www.example.com"),
        stub.rrset("t.example.org.", "TXT", '"one" "t\\"wo"', "plain"),
        stub.rrset("m.example.org.", "MX", "10 mail.example.com."),
        stub.rrset("h.example.org.", "HTTPS", "1 . alpn=h2"),
        stub.rrset("c.example.org.", "CAA", '0 issue "pki.goog"'),
        stub.rrset("*.example.org.", "SRV", "0 0 5269 srv.example.com"),
    )
    intake, zone = copied(google)
    assert intake.refused == {}
    assert sorted(lines(zone)) == [
        "*.example.org. 300 SRV 0 0 5269 srv.example.com.",
        "alias.example.org. 300 CNAME www.example.com.",
        'c.example.org. 300 CAA 0 issue "pki.goog"',
        "example.org. 300 NS ns-cloud-c1.googledomains.com.",
        'h.example.org. 300 HTTPS 1 . alpn="h2"',
        "m.example.org. 300 MX 10 mail.example.com.",
        't.example.org. 300 TXT "one" "t\\"wo"',
        't.example.org. 300 TXT "plain"',
        "www.example.org. 5 A 192.0.2.1",
        "www.example.org. 5 A 192.0.2.2",
    ]


POLICY = {"wrr": {"items": [{"weight": 1, "rrdatas": ["192.0.2.1"]}]}}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (stub.rrset("swag.example.org.", "YOLO", "foobar"), "swag.example.org. YOLO: "),
        (stub.rrset("a.example.org.", "A", "x"), "a.example.org. A: "),
        (
            stub.rrset("a.example.org.", "A", routingPolicy=POLICY),
            "a.example.org. A: its records depend on a routing policy",
        ),
        ({"name": "a."}, "? ?: the record set has no name, or no type"),
        ("x", "? ?: the record set has no name, or no type"),
        (stub.rrset("a.example.org.", "A", "192.0.2.1", ttl="5"), "a.example.org. A: the record"),
        (stub.rrset("a.example.org.", "A", "192.0.2.1", ttl=True), "a.example.org. A: the record"),
        (stub.rrset("a.example.org.", "TXT", "\ud800"), "a.example.org. TXT: "),
        (stub.rrset("\ud800.example.org.", "A", "192.0.2.1"), "?.example.org. A: half of a surr"),
        (stub.rrset("a.example.org.", "A", 5), "a.example.org. A: the record is not a text"),
        (stub.rrset("a..b.", "A", "192.0.2.1"), "a..b. A: empty label"),
    ],
)
def test_an_unusable_set_costs_only_itself(google, document, reason):
    """CoreDNS leaves out all sets after it without a word."""
    google.put("my-project:my-zone", document, stub.rrset("www.example.org.", "A", "192.0.2.1"))
    intake, zone = copied(google)
    assert lines(zone) == ["www.example.org. 300 A 192.0.2.1"]
    (line,) = intake.refused
    assert line.startswith(reason)


def test_pages(google):
    sets = [stub.rrset(f"a{number}.example.org.", "A", "192.0.2.1") for number in range(7)]
    google.put("my-project:my-zone", *sets)
    google.page_size = 3
    _, zone = copied(google)
    assert zone.records == 8
    assert [it.target for it in google.requests[1:]] == [
        *(RRSETS, f"{RRSETS}?pageToken=3%26%2B%3D", f"{RRSETS}?pageToken=6%26%2B%3D"),
    ]


def test_a_token_that_ends_between_two_pages(google):
    sets = [stub.rrset(f"a{number}.example.org.", "A", "192.0.2.1") for number in range(4)]
    google.put("my-project:my-zone", *sets)
    google.page_size = 3
    answered = google.respond

    def respond(request):
        response = answered(request)
        if request.target == RRSETS:
            google.token = "the-second-token"
        return response

    google.recorder.response = respond
    _, zone = copied(google)
    assert zone.records == 5
    assert [it.headers.get("authorization") for it in google.requests] == [
        *(None, f"Bearer {stub.TOKEN}", f"Bearer {stub.TOKEN}"),
        *(None, "Bearer the-second-token"),
    ]


def test_requests_are_counted_for_the_project_of_a_user(google, tmp_path):
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(google.authorized_user(quota_project_id="billed")))
    copied(google, file=path)
    assert google.requests[1].headers.get("x-goog-user-project") == "billed"


HTML = b"<html><head><title>Sign in to the proxy</title></head></html>"
EXPIRED = stub.google_error(401, "authError", "Invalid Credentials")
DISABLED = "Cloud DNS API has not been used in project 1 before or it is disabled."


@pytest.mark.parametrize(
    ("response", "message", "retry_after"),
    [
        pytest.param(
            stub.google_error(403, "forbidden", "Forbidden"),
            "HTTP status 403: forbidden: Forbidden; grant the role roles/dns.reader",
            None,
            id="403",
        ),
        pytest.param(
            stub.http(
                403, {"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}
            ),
            "PERMISSION_DENIED: no; grant the role",
            None,
            id="newer 403",
        ),
        pytest.param(
            stub.google_error(403, "accessNotConfigured", DISABLED),
            "it is disabled; enable the Cloud DNS API in the project",
            None,
            id="disabled",
        ),
        pytest.param(
            stub.google_error(429, "rateLimitExceeded", "Quota exceeded.", "Retry-After: 31"),
            "HTTP status 429: rateLimitExceeded: Quota exceeded; too many requests",
            31,
            id="429",
        ),
        pytest.param(
            stub.google_error(500, "backendError", "Oops"), "Oops; the service fails", None, id="5"
        ),
        pytest.param(stub.http(503, HTML, "Retry-After: 5"), "not from the API", 5, id="HTML"),
        pytest.param(stub.http(404, HTML), "HTTP status 404", None, id="404 of a proxy"),
        pytest.param(stub.http(200, HTML), "not a list of records", None, id="HTML with 200"),
        pytest.param(
            stub.http(200, b'{"rrsets": [{"name": "'), "not a list of records", None, id="cut JSON"
        ),
        pytest.param(
            stub.http(200, {"rrsets": [], "nextPageToken": 3}), "is malformed", None, id="token"
        ),
        pytest.param(
            stub.http(200, {"nextPageToken": "x" * 9000}), "is malformed", None, id="long token"
        ),
        pytest.param(stub.http(200, {}), "the list of records has no SOA record", None, id="empty"),
        pytest.param(
            stub.http(301, b"", "Location: https://evil.example/x"), "not followed", None, id="301"
        ),
        pytest.param(
            stub.http(400, {"error": {"message": f"{stub.TOKEN} is bad"}}),
            "HTTP status 400: *** is bad",
            None,
            id="the token in the error",
        ),
        pytest.param(stub.http(400, {"error": []}), "HTTP status 400", None, id="no error"),
        pytest.param(stub.http(400, {"error": {"errors": [1]}}), "HTTP status 400", None, id="1"),
    ],
)
def test_failures(google, response, message, retry_after):
    google.faults = [response]
    error = failure_of(google)
    assert message in str(error)
    assert not isinstance(error, ZoneMissing)
    assert getattr(error, "retry_after", None) == retry_after


def test_a_token_that_is_refused_twice(google):
    google.faults = [EXPIRED, EXPIRED]
    message = "HTTP status 401: authError: Invalid Credentials; the credentials are not accepted"
    assert message in str(failure_of(google))


def test_a_zone_that_does_not_exist(google):
    error = failure_of(google, PolledZone(from_text("example.org"), "my-project:other"))
    assert isinstance(error, ZoneMissing)
    assert "notFound: The 'parameters.managedZone' resource named 'other'" in str(error)


def test_the_records_of_another_zone_would_deny_all_names(google):
    google.put("my-project:my-zone", origin="example.com.")
    message = "the hosted zone has the records of example.com., not of example.org.: correct the"
    assert message in str(failure_of(google))


def test_pages_that_repeat(google):
    page = stub.http(200, {"rrsets": [], "nextPageToken": "x"})
    google.faults = [page, page]
    assert str(failure_of(google)) == "the pages of the list repeat"


def test_pages_without_an_end(google, monkeypatch):
    monkeypatch.setattr("corepy.zone.polled_api.MOST_PAGES", 3)
    google.faults = [stub.http(200, {"nextPageToken": str(number)}) for number in range(9)]
    assert "the list of records does not end: 4 pages" in str(failure_of(google))


def test_over_tls(tmp_path, monkeypatch):
    with stub.CloudDNSAPI(tls=True) as server, stub.CloudDNSAPI() as machine:
        server.put("my-project:my-zone")
        machine.put("my-project:my-zone")
        assert "certificate" in str(failure_of(machine, target=server.target())).lower()
        authority = tmp_path / "ca.pem"
        authority.write_text(CERTIFICATE)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))

        async def loopback(host, port):
            return ["127.0.0.1"]

        monkeypatch.setattr("corepy.http.connecting.resolve", loopback)
        target = server.target().__class__("https", SERVER_NAME, server.recorder.port, "")
        _, zone = copied(machine, target=target)
        assert zone.records == 1
        (request,) = server.requests
        assert request.headers["authorization"] == f"Bearer {stub.TOKEN}"


def test_a_path_has_no_unescaped_part_of_the_corefile():
    assert path_of("example.com:p/../q:z?x") == (
        "/dns/v1/projects/example.com%3Ap%2F..%2Fq/managedZones/z%3Fx/rrsets"
    )


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
SETS = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "type": st.sampled_from(["A", "TXT", "SOA", "SPF"]) | JSON,
        "ttl": JSON,
        "rrdatas": JSON | st.lists(JSON, max_size=2),
        "routingPolicy": JSON,
    },
)


@QUIET
@given(st.lists(SETS | JSON, max_size=3), JSON)
def test_any_json_is_read_or_refused(sets, token):
    page = json.dumps({"rrsets": sets, "nextPageToken": token}).encode()
    records = HostedRecords(ZoneIntake(ZONE))
    try:
        assert read_page(page, records) == (token or "")
    except PollError:
        assert not isinstance(token, str)
