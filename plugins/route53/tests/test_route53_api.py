"""Requests to the API and its failures, with a server that answers as told."""

import asyncio
import time
from email.utils import formatdate
from urllib.parse import parse_qs, urlsplit

import pytest

from corepy.dns.names import from_text
from corepy.testing import helper_module
from corepy.zone.polled_api import PolledZone, PollError, ZoneIntake, ZoneMissing
from corepy_route53 import api as client_module
from corepy_route53.api import Route53Client

api = helper_module(__file__, "route53_api")
Told, options_for, http_response = api.Told, api.options_for, api.http_response
zone_page, page_of, record_set, error_page = (
    api.zone_page,
    api.page_of,
    api.record_set,
    api.error_page,
)

ZONE = PolledZone(from_text("example.org."), "Z1")
TOKEN = "session-token-of-the-test"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(client_module, "LAST_PAUSE", 0.0)


def fetch(options, zone=ZONE):
    """The intake after a list."""

    async def run():
        client = Route53Client(options)
        intake = ZoneIntake(zone)
        try:
            await client.fetch(zone, intake)
        finally:
            client.close()
        return intake

    return asyncio.run(run())


def problem_of(*answers, **options):
    with Told(*answers) as server, pytest.raises(OSError, match=r".") as caught:
        fetch(options_for(server, **options))
    return caught.value


def page(number):
    return record_set(f"h{number}.example.org.", "A", f"192.0.2.{number}")


def test_pages_are_requested_with_the_three_cursors():
    pages = [
        zone_page(page(1), following=(r"\052.example.org.", "A")),
        page_of(page(2), following=("h3.example.org.", "A", "a b&c")),
        page_of(page(3)),
    ]
    with Told(*map(http_response, pages)) as server:
        zone = fetch(options_for(server)).build()
        assert zone.records == 4
    assert server.connections == 1
    targets = [urlsplit(it.target) for it in server.seen]
    assert {it.path for it in targets} == {"/2013-04-01/hostedzone/Z1/rrset"}
    assert [parse_qs(it.query) for it in targets] == [
        {"maxitems": ["300"]},
        {"maxitems": ["300"], "name": [r"\052.example.org."], "type": ["A"]},
        {
            "maxitems": ["300"],
            "name": ["h3.example.org."],
            "type": ["A"],
            "identifier": ["a b&c"],
        },
    ]
    first = server.seen[0].headers
    assert "AKIDEXAMPLE/" in first["authorization"]
    assert "/us-east-1/route53/aws4_request" in first["authorization"]
    assert api.KEYS[1] not in str(first)


@pytest.mark.parametrize("names", [["h1"], ["h1", "h2", "h1"]])
def test_a_list_that_does_not_advance_ends(names):
    pages = [zone_page(following=(f"{name}.example.org.", "A")) for name in names]
    assert str(problem_of(*map(http_response, pages))) == "the list of record sets does not advance"


def test_the_id_cannot_lead_to_another_path():
    with Told(http_response(zone_page())) as server:
        fetch(options_for(server), PolledZone(ZONE.origin, "../../x?a=b#"))
    assert server.seen[0].target.startswith("/2013-04-01/hostedzone/..%2F..%2Fx%3Fa%3Db%23/rrset?")


# -- failures


def test_a_throttled_page_is_requested_again():
    throttled = http_response(error_page("Throttling", "Rate exceeded"), 400)
    answers = [
        throttled,
        http_response(zone_page(page(1), following=("h2.example.org.", "A"))),
        throttled,
        http_response(b"", 503),
        http_response(page_of(page(2))),
    ]
    with Told(*answers) as server:
        assert fetch(options_for(server)).build().records == 3
    assert len(server.seen) == 5


@pytest.mark.parametrize(
    ("status", "code"), [(400, "Throttling"), (429, ""), (503, "ServiceUnavailable")]
)
def test_an_overloaded_api_fails_the_list_and_its_pause_is_kept(status, code):
    body = error_page(code) if code else b"slow down"
    error = problem_of(http_response(body, status, "Retry-After: 7"))
    assert error.retry_after == 7.0
    assert code in str(error)
    assert not isinstance(error, ZoneMissing)


def test_a_connection_that_is_cut_within_a_later_page_is_made_again():
    whole = http_response(page_of(page(2)))
    answers = [
        http_response(zone_page(page(1), following=("h2.example.org.", "A"))),
        b"",
        whole,
    ]
    with Told(*answers) as server:
        assert fetch(options_for(server)).build().records == 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "the connection was closed without a response"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the response is not HTTP"),
        (http_response(zone_page()[:90]), "the response cannot be read: not XML"),
        (http_response(b"", 301, "Location: http://127.0.0.1:1/"), "HTTP status 301"),
        (http_response(b"<html>", 502), "HTTP status 502: the service fails"),
        (http_response(b"{}", 404), "HTTP status 404: no such zone"),
        (
            http_response(error_page("InvalidInput", "Bad\x7f\nID"), 400),
            "HTTP status 400: InvalidInput: Bad? ID",
        ),
    ],
    ids=["closed", "SSH", "half", "moved", "HTML", "not found", "invalid"],
)
def test_other_responses_are_explained(answer, problem):
    error = problem_of(answer)
    assert problem in str(error)
    assert not isinstance(error, ZoneMissing)


def test_a_page_has_a_bound(monkeypatch):
    monkeypatch.setattr(client_module, "LARGEST_PAGE", 100)
    assert "more than 100 bytes" in str(problem_of(http_response(zone_page())))


def test_a_hosted_zone_that_does_not_exist_is_missing():
    error = problem_of(http_response(error_page("NoSuchHostedZone", "No hosted zone: Z1"), 404))
    assert isinstance(error, ZoneMissing)
    assert str(error) == (
        "Route 53 has no hosted zone with this ID in the account of aws_access_key"
    )


SIGNED = "The Canonical String for this request should have been x-amz-security-token:secret"


@pytest.mark.parametrize(
    ("code", "seconds", "problem"),
    [
        ("SignatureDoesNotMatch", 0, "the secret access key of aws_access_key does not belong"),
        ("SignatureDoesNotMatch", 900, "the clock of this host is 15 minutes ahead of that of AWS"),
        ("RequestExpired", -7200, "the clock of this host is 120 minutes behind that of AWS"),
        ("InvalidClientTokenId", 0, "the access key ID of aws_access_key is unknown to AWS"),
        ("ExpiredToken", 0, "the session token of aws_access_key has expired"),
        ("AccessDenied", 0, "allow route53:ListResourceRecordSets on arn:aws:route53:::hostedz"),
    ],
)
def test_refused_credentials_are_explained_without_secrets(code, seconds, problem):
    date = formatdate(time.time() - seconds, usegmt=True)
    message = "User: arn:aws:iam::1:user/x is not authorized" if code == "AccessDenied" else SIGNED
    error = problem_of(http_response(error_page(code, message), 403, f"Date: {date}"))
    assert problem in str(error)
    assert "security-token" not in str(error)
    assert api.KEYS[1] not in str(error)


def test_errors_have_several_forms():
    inner = b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"
    for body in (inner, b"<a>%s</a>" % inner, b"<a><Errors>%s</Errors></a>" % inner):
        assert str(problem_of(http_response(body, 403))).startswith("AccessDenied: No.; allow")


def test_keys_that_are_refused_are_found_anew(tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = a\n")

    def answer(request):
        if "Credential=OLD/" not in request.headers["authorization"]:
            return http_response(zone_page())
        path.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = b\n")
        return http_response(error_page("InvalidClientTokenId"), 403)

    with Told(answer) as server:
        assert fetch(options_for(server, keys=None, profile="default", file=path)).build()


def test_an_endpoint_that_refuses_connections_is_named():
    with Told(b"") as server:
        pass
    with pytest.raises(OSError, match=rf"^127\.0\.0\.1:{server.port}: Connection refused$"):
        fetch(options_for(server))


@pytest.mark.parametrize(
    ("variables", "host", "signed"),
    [
        ({}, "route53.amazonaws.com", "us-east-1"),
        ({"AWS_REGION": "cn-north-1"}, "route53.amazonaws.com.cn", "cn-northwest-1"),
        ({"AWS_DEFAULT_REGION": "us-gov-west-1"}, "route53.us-gov.amazonaws.com", "us-gov-west-1"),
        ({"AWS_ENDPOINT_URL": "http://a.test:1"}, "a.test", "us-east-1"),
        (
            {"AWS_ENDPOINT_URL": "http://a.test", "AWS_ENDPOINT_URL_ROUTE_53": "https://b.test"},
            "b.test",
            "us-east-1",
        ),
        (
            {
                "AWS_ENDPOINT_URL": "http://a.test",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            "route53.amazonaws.com",
            "us-east-1",
        ),
    ],
)
def test_endpoints_follow_the_environment(variables, host, signed):
    async def run():
        options = api.Options(keys=api.KEYS, environment=api.environment(**variables))
        client = Route53Client(options)
        await client._credentials.get()
        target, region = client._endpoint()
        return target.host, region

    assert asyncio.run(run()) == (host, signed)


def test_a_malformed_endpoint_in_the_environment_is_explained():
    options = api.Options(keys=api.KEYS, environment=api.environment(AWS_ENDPOINT_URL="ftp://x"))
    with pytest.raises(PollError, match="AWS_ENDPOINT_URL: a URL begins with http"):
        fetch(options)


# -- large zones


def test_a_large_zone_is_listed_while_other_tasks_run():
    count, size = 3_000, 300
    pages = [
        (zone_page if start == 0 else page_of)(
            *(
                record_set(f"h{n}.example.org.", "A", f"10.0.{n >> 8}.{n & 255}")
                for n in range(start, start + size)
            ),
            following=(f"h{start + size}.example.org.", "A") if start + size < count else None,
        )
        for start in range(0, count, size)
    ]
    turns = 0

    async def run(options):
        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        client, intake = Route53Client(options), ZoneIntake(ZONE)
        await client.fetch(ZONE, intake)
        task.cancel()
        client.close()
        return intake

    with Told(*map(http_response, pages)) as server:
        intake = asyncio.run(run(options_for(server)))
    assert intake.build().records == count + 1
    assert turns > len(pages)
