"""The client, with a stub of the APIs over real sockets."""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from corepy.dns.names import from_text
from corepy.http import bearer_api, json_api
from corepy.testing import helper_module
from corepy.testing.tls import CERTIFICATE, SERVER_NAME
from corepy.zone import ZoneError
from corepy.zone.polled_api import LARGEST_PAGE, PolledZone, PollError, ZoneIntake, ZoneMissing
from corepy_azure.client import Client
from corepy_azure.clouds import Cloud
from corepy_azure.tokens import Account

stub = helper_module(__file__, "azure_api")
ZONE = PolledZone(from_text("example.org"), "rg/dnsZones/example.org")
PRIVATE = PolledZone(from_text("example.org"), "rg/privateDnsZones/example.org")


@pytest.fixture
def azure():
    with stub.AzureAPI() as server:
        server.put("example.org", stub.a("www", "192.0.2.1"))
        yield server


def account_of(server, **changes):
    return Account(
        **{
            "cloud": Cloud(server.target(), server.target(), "https://management.example/"),
            "subscription": stub.SUBSCRIPTION,
            "tenant": "the tenant",
            "client": "the-client",
            "secret": stub.SECRET,
            **changes,
        },
    )


def copied(server, *zones, **changes):
    """List zones with one client; return the zones."""

    async def run():
        client = Client(account_of(server, **changes))
        try:
            return [await listed(client, zone) for zone in zones or (ZONE,)]
        finally:
            client.close()

    return asyncio.run(run())


async def listed(client, zone=ZONE):
    intake = ZoneIntake(zone)
    await client.fetch(zone, intake)
    return intake.build()


def failure_of(server, zone=ZONE, **changes):
    """The error of a list, which has no secrets."""
    with pytest.raises((OSError, ZoneError)) as error:
        copied(server, zone, **changes)
    text = str(error.value)
    assert stub.SECRET not in text
    assert stub.TOKEN not in text
    assert "\n" not in text
    assert len(text) < 1000
    return error.value


def lists(server):
    """The targets of requests for record sets."""
    return [it.target for it in server.requests if "oauth2" not in it.target]


def test_a_public_and_a_private_zone_with_one_token(azure):
    azure.put("example.org", kind="privateDnsZones")
    public, private = copied(azure, ZONE, PRIVATE)
    assert (public.records, private.records) == (2, 1)
    token, *_ = azure.requests
    assert (token.method, token.target) == ("POST", "/the%20tenant/oauth2/v2.0/token")
    assert token.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(token.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["the-client"],
        "client_secret": [stub.SECRET],
        "scope": ["https://management.example/.default"],
    }
    group = f"/subscriptions/{stub.SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Network"
    assert lists(azure) == [
        f"{group}/dnsZones/example.org/recordsets?api-version=2023-07-01-preview",
        f"{group}/privateDnsZones/example.org/ALL?api-version=2024-06-01",
    ]


def test_pages(azure):
    azure.put("example.org", *(stub.a(f"a{number}", "192.0.2.1") for number in range(7)))
    azure.page_size = 3
    (zone,) = copied(azure)
    assert zone.records == 8
    assert len(lists(azure)) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "NoRegisteredProviderFound"),
        (400, "InvalidApiVersionParameter"),
        (404, "InvalidResourceType"),
    ],
)
def test_a_cloud_with_older_versions_of_the_api(azure, status, code):
    azure.unknown_version = stub.arm_error(status, code, "The version is not known.")
    azure.versions = ("2016-04-01",)
    assert [zone.records for zone in copied(azure, ZONE, ZONE)] == [2, 2]
    used = [parse_qs(urlsplit(it).query)["api-version"] for it in lists(azure)]
    assert used == [["2023-07-01-preview"], ["2018-05-01"], ["2016-04-01"], ["2016-04-01"]]
    azure.versions = ()
    error = failure_of(azure)
    assert f"HTTP status {status}: {code}" in str(error)
    assert not isinstance(error, ZoneMissing)


def test_two_lists_at_a_time_find_the_same_version(azure):
    azure.versions = ("2018-05-01",)

    async def run():
        client = Client(account_of(azure))
        zones = await asyncio.gather(listed(client), listed(client))
        client.close()
        return zones

    assert [zone.records for zone in asyncio.run(run())] == [2, 2]


def test_a_version_that_ends_between_two_pages(azure):
    azure.put("example.org", *(stub.a(f"a{number}", "192.0.2.1") for number in range(5)))
    azure.page_size = 3
    gone = stub.arm_error(400, "NoRegisteredProviderFound", "No registered resource provider")
    answered = azure.respond
    azure.recorder.response = lambda request: (
        gone if "$skipToken" in request.target else answered(request)
    )
    error = failure_of(azure)
    assert isinstance(error, PollError)
    assert "HTTP status 400: NoRegisteredProviderFound" in str(error)


def test_a_token_that_ends_between_two_pages(azure):
    azure.put("example.org", *(stub.a(f"a{number}", "192.0.2.1") for number in range(5)))
    azure.page_size = 3
    answered = azure.respond

    def respond(request):
        response = answered(request)
        if "$skipToken" not in request.target and "oauth2" not in request.target:
            azure.token = "the-second-token"
        return response

    azure.recorder.response = respond
    (zone,) = copied(azure)
    assert zone.records == 6
    assert [it.headers.get("authorization") for it in azure.requests] == [
        *(None, f"Bearer {stub.TOKEN}", f"Bearer {stub.TOKEN}"),
        *(None, "Bearer the-second-token"),
    ]


def test_a_token_is_replaced_before_its_end(azure, monkeypatch):
    moment = [1000.0]
    monkeypatch.setattr(bearer_api.time, "monotonic", lambda: moment[0])

    async def run():
        client = Client(account_of(azure))
        for moment[0] in (1000.0, 4298.0, 4300.0):
            await listed(client)
        client.close()

    asyncio.run(run())
    tokens = [number for number, it in enumerate(azure.requests) if "oauth2" in it.target]
    assert tokens == [0, 3]


def test_a_workload_identity(azure, tmp_path):
    path = tmp_path / "token"
    error = failure_of(azure, secret="", token_file=path)
    assert str(error) == f"{path}, the token of the workload identity: No such file or directory"
    for content in (" \n", "a\nb", "\xe9"):
        path.write_text(content, encoding="latin-1")
        assert str(failure_of(azure, secret="", token_file=path)) == f"{path} has no token"
    path.write_text("eyJh.federated\n")
    copied(azure, secret="", token_file=path)
    form = parse_qs(azure.requests[0].body.decode())
    assert form["client_assertion"] == ["eyJh.federated"]
    assert form["client_assertion_type"] == [
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    ]
    assert "client_secret" not in form


def test_the_metadata_service(azure):
    answered = azure._token()
    azure.token_fault = answered.replace(b'"expires_in": 3599', b'"expires_in": "86"')
    instance = azure.target()
    copied(azure, secret="", instance=instance)
    request = azure.requests[0]
    assert request.headers["metadata"] == "true"
    assert request.target == (
        "/metadata/identity/oauth2/token?api-version=2018-02-01"
        "&resource=https%3A%2F%2Fmanagement.example%2F&client_id=the-client"
    )
    azure.token_fault = stub.http(
        400, {"error": "invalid_request", "error_description": "Identity not found"}
    )
    error = failure_of(azure, secret="", instance=instance, client="")
    assert str(error).endswith(
        "Identity not found; assign an identity to the virtual machine, or name it with client"
    )
    assert str(error).startswith("no token from the metadata service: 127.0.0.1:")
    assert "client_id" not in azure.requests[-1].target


def test_missing_settings_are_named_without_a_request(azure):
    assert str(failure_of(azure, subscription="")).startswith("subscription is missing: write")
    assert azure.requests == []


HTML = b"<html><head><title>Sign in to the proxy</title></head></html>"
TRACE = "\r\nTrace ID: 6f6c4645-0202\r\nCorrelation ID: 5fc8\r\nTimestamp: 2026-05-06 06:03:00Z"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        pytest.param(
            stub.http(
                401,
                {
                    "error": "invalid_client",
                    "error_description": f"AADSTS7000215: Invalid client secret provided.{TRACE}",
                    "error_codes": [7000215],
                },
            ),
            "HTTP status 401: invalid_client: AADSTS7000215: Invalid client secret provided",
            id="a wrong secret",
        ),
        pytest.param(
            stub.http(
                400,
                {
                    "error": "invalid_request",
                    "error_description": f"AADSTS90002: Tenant 't' not found.{TRACE}",
                },
            ),
            "HTTP status 400: invalid_request: AADSTS90002: Tenant 't' not found; check tenant",
            id="a wrong tenant",
        ),
        pytest.param(
            stub.http(401, {"error": "x", "error_description": f"AADSTS700024: Late.{TRACE}"}),
            "x: AADSTS700024: Late; check the file of the workload identity, and the clock",
            id="an old token",
        ),
        pytest.param(
            stub.http(401, {"error": "x", "error_description": f"AADSTS700213: No match.{TRACE}"}),
            "x: AADSTS700213: No match; add a federated credential for this service account",
            id="no federated credential",
        ),
        pytest.param(
            stub.http(400, {"error": "unauthorized_client", "error_description": stub.SECRET}),
            "HTTP status 400: unauthorized_client: ***",
            id="the secret in the error",
        ),
        pytest.param(
            stub.http(502, HTML, kind="text/html"),
            "HTTP status 502: the content is not from the API (not a JSON object)",
            id="a page of a proxy",
        ),
        pytest.param(stub.http(503, b""), "HTTP status 503", id="no content"),
        pytest.param(
            stub.http(302, b"", "Location: https://login.example/?state=secret"),
            "HTTP status 302: redirect to https://login.example/, which is not followed",
            id="a redirect",
        ),
        pytest.param(
            stub.http(200, HTML, kind="text/html"), "is not JSON", id="a page with status 200"
        ),
        pytest.param(stub.http(200, []), "the response is not a JSON object", id="an array"),
        pytest.param(stub.http(200, b"[" * 100_000), "nested too deeply", id="deep"),
        pytest.param(
            stub.http(200, {"access_token": ""}), "has no usable access token", id="no token"
        ),
        pytest.param(
            stub.http(200, {"access_token": "a\r\nX: y"}), "no usable access token", id="a header"
        ),
        pytest.param(
            stub.http(200, {"access_token": "a b"}), "no usable access token", id="a space"
        ),
        pytest.param(b"", "closed without a response", id="closed"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP/1.1", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "within the response", id="cut off"
        ),
    ],
)
def test_failures_of_the_login(azure, response, message):
    azure.token_fault = response
    if response == b"":
        azure.recorder.response = lambda request: b""
    elif b"Content-Length: 99" in response or response.startswith(b"SSH"):
        azure.recorder.response = closing(azure, response)
    text = str(failure_of(azure))
    assert text.startswith("no token from Microsoft Entra ID: ")
    assert message in text
    assert "Trace" not in text
    assert lists(azure) == []


def closing(server, response):
    """A response after which the connection ends."""

    def respond(request):
        if not server.recorder._streams:
            return b""
        server.recorder._streams[-1].sendall(response)
        return b""

    return respond


def test_the_login_asks_for_a_pause(azure):
    azure.token_fault = stub.http(429, {"error": "throttled"}, "Retry-After: 17")
    error = failure_of(azure)
    assert error.retry_after == 17


DENIED = (
    "The client 'c' with object id 'o' does not have authorization to perform action"
    " 'Microsoft.Network/dnsZones/recordsets/read' over scope '/subscriptions/s'."
)


@pytest.mark.parametrize(
    ("response", "message", "retry_after"),
    [
        pytest.param(
            stub.arm_error(403, "AuthorizationFailed", DENIED),
            f"HTTP status 403: AuthorizationFailed: {DENIED[:-1]}; assign the role Reader for the"
            " zone to the identity",
            None,
            id="403",
        ),
        pytest.param(
            stub.arm_error(404, "SubscriptionNotFound", "The subscription 's' could not be found."),
            "could not be found; check subscription, and environment",
            None,
            id="no subscription",
        ),
        pytest.param(
            stub.arm_error(429, "TooManyRequests", "Slow down.", "Retry-After: 31"),
            "HTTP status 429: TooManyRequests: Slow down; too many requests",
            31,
            id="429",
        ),
        pytest.param(
            stub.arm_error(500, "InternalServerError", "Oops."),
            "HTTP status 500: InternalServerError: Oops; the service fails",
            None,
            id="500",
        ),
        pytest.param(
            stub.http(503, HTML, "Retry-After: 5", kind="text/html"), "not a JSON", 5, id="HTML"
        ),
        pytest.param(
            stub.http(404, HTML, kind="text/html"), "HTTP status 404", None, id="404 of a proxy"
        ),
        pytest.param(stub.http(200, HTML), "not a list of records", None, id="HTML with 200"),
        pytest.param(
            stub.http(200, b'{"value": [{"name": "'), "not a list of records", None, id="cut JSON"
        ),
        pytest.param(stub.http(200, {}), "the list of records has no SOA record", None, id="empty"),
        pytest.param(
            stub.http(400, {"error": {"message": f"token {stub.TOKEN} is bad"}}),
            "HTTP status 400: token *** is bad",
            None,
            id="the token in the error",
        ),
        pytest.param(
            stub.http(400, {"error": {"message": "x" * 1000 + "\n\x1b[31m"}}),
            "xxx [...]",
            None,
            id="a long error",
        ),
        pytest.param(
            stub.http(307, b"", "Location: https://evil.example/steal"),
            "redirect to https://evil.example/steal, which is not followed",
            None,
            id="a redirect",
        ),
    ],
)
def test_failures_of_the_list(azure, response, message, retry_after):
    azure.faults = [response]
    error = failure_of(azure)
    assert message in str(error)
    assert not isinstance(error, ZoneMissing)
    assert getattr(error, "retry_after", None) == retry_after


def test_a_token_that_is_refused_twice(azure):
    expired = stub.arm_error(401, "InvalidAuthenticationToken", "The access token is invalid.")
    azure.faults = [expired, expired]
    assert "HTTP status 401: InvalidAuthenticationToken" in str(failure_of(azure))
    assert [it.method for it in azure.requests] == ["POST", "GET", "POST", "GET"]


def test_a_zone_that_does_not_exist(azure):
    error = failure_of(azure, PolledZone(from_text("example.com"), "rg/dnsZones/example.com"))
    assert isinstance(error, ZoneMissing)
    assert str(error).endswith(
        "resource group 'rg' has no public zone 'example.com': check the names, and whether it is"
        " private"
    )


@pytest.mark.parametrize("code", ["ParentResourceNotFound", "ResourceGroupNotFound", "NotFound"])
def test_other_codes_of_a_zone_that_does_not_exist(azure, code):
    azure.faults = [stub.arm_error(404, code, "Not found.")]
    assert isinstance(failure_of(azure), ZoneMissing)


def test_no_other_server_gets_the_token(azure):
    azure.faults = [stub.http(200, {"value": [stub.soa()], "nextLink": "https://evil.example/"})]
    assert "leads to another server: evil.example" in str(failure_of(azure))


def test_pages_that_repeat(azure):
    link = f"{azure.url}/again"
    azure.faults = [stub.http(200, {"value": [], "nextLink": link})] * 2
    assert str(failure_of(azure)) == "the pages of the list repeat"


def test_pages_without_an_end(azure, monkeypatch):
    monkeypatch.setattr("corepy.zone.polled_api.MOST_PAGES", 5)
    azure.faults = [
        stub.http(200, {"value": [], "nextLink": f"{azure.url}/{number}"}) for number in range(9)
    ]
    assert "the list of records does not end: 6 pages" in str(failure_of(azure))


def test_a_page_without_an_end(azure, monkeypatch):
    """The response is 50 MB long; it is not read to its end."""
    assert LARGEST_PAGE == 32 * 1024 * 1024  # as the manual promises
    monkeypatch.setattr("corepy_azure.client.LARGEST_PAGE", 1_000_000)
    sent = []

    def respond(request):
        if "oauth2" in request.target:
            return azure.respond(request)
        stream = azure.recorder._streams[-1]
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            stream.sendall(b" " * 1_000_000)
            sent.append(1)
        return b""

    azure.recorder.response = respond
    assert "more than 1000000 bytes" in str(failure_of(azure))
    assert len(sent) < 50


def test_a_response_that_stops(azure, monkeypatch):
    monkeypatch.setattr(json_api, "CONTENT_TIMEOUT", 0.01)
    azure.faults = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"]
    assert "did not end within 0.01 s" in str(failure_of(azure))


def test_over_tls(tmp_path, monkeypatch):
    with stub.AzureAPI(tls=True) as server:
        server.put("example.org")
        target = replace(server.target(), host="127.0.0.1")
        cloud = Cloud(target, target, "https://management.example/")
        assert "certificate" in str(failure_of(server, cloud=cloud)).lower()
        authority = tmp_path / "ca.pem"
        authority.write_text(CERTIFICATE)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert "certificate is not valid for" in str(failure_of(server)).lower()
        monkeypatch.setattr("corepy.http.connecting.resolve", loopback)
        target = replace(target, host=SERVER_NAME)
        (zone,) = copied(server, cloud=Cloud(target, target, "https://management.example/"))
        assert zone.records == 1
        assert [it.headers["host"].partition(":")[0] for it in server.requests] == [
            *(SERVER_NAME, SERVER_NAME),
        ]


async def loopback(host, port):
    return ["127.0.0.1"]
