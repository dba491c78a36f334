"""Requests to JSON APIs: errors as texts, tokens, and servers that may get secrets.

The plugins *azure* and *clouddns* test the requests with stubs of their APIs.
"""

import asyncio
import json
import math
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.http.bearer_api import BearerAPI, Token, made_token, token_of
from corepy.http.http_client import parse_url
from corepy.http.json_api import JSONAPI, APIError, document_of, error_of, is_protected, one_line
from corepy.testing.http_recorder import HTTPRecorder

QUIET = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"error": "invalid_client"}, ("invalid_client", "")),
        ({"error": "a", "error_description": "b c."}, ("a", "b c")),
        ({"error": {"code": "NotFound", "message": "No.\r\nNo."}}, ("NotFound", "No. No")),
        (
            {"error": {"code": 403, "message": "m", "status": "S", "errors": [{"reason": "r"}]}},
            ("r", "m"),
        ),
        ({"error": {"code": 403, "status": "PERMISSION_DENIED"}}, ("PERMISSION_DENIED", "")),
        ({"error": {"errors": [3], "message": 4}}, ("", "")),
        ({"error": None}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_errors_of_apis(document, found):
    assert error_of(json.dumps(document).encode()) == found


def test_errors_of_others():
    assert error_of(b" \r\n") == ("", "")
    for content in (b"<html>", b"[]", b"\xff", b"[" * 100_000):
        assert error_of(content) == ("", "the content is not from the API (not a JSON object)")


@QUIET
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_content_is_an_error(content):
    for wrapped in (content, b'{"error": ' + content + b"}"):
        code, message = error_of(wrapped)
        assert code.isprintable()
        assert message.isprintable()


def test_a_text_of_an_api_is_one_short_line():
    assert one_line("a\x1b[31m\n\tb\u202ec") == "a [31m b c"
    assert one_line("x" * 500) == f"{'x' * 400} [...]"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example", True),
        ("http://api.example", False),
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:80", True),
        ("http://localhost", True),
        ("http://localhost.example", False),
        ("http://169.254.169.254", False),
        ("http://10.0.0.1", False),
    ],
)
def test_servers_that_may_get_secrets(url, expected):
    assert is_protected(parse_url(url)) is expected


def test_a_token_is_used_until_shortly_before_its_end(monkeypatch):
    monkeypatch.setattr("corepy.http.bearer_api.time.monotonic", lambda: 1000.0)
    assert made_token("a", 3600.0) == Token("a", 4300.0)
    assert made_token("a", 60.0) == Token("a", 1030.0)
    for value in (None, 3, "", "a b", "a\n", "é"):
        with pytest.raises(OSError, match="no usable access token"):
            made_token(value, 60.0)


UNKNOWN_LIFETIMES: list[object] = [None, "x", "9" * 9, -1, True, 0, math.nan, []]


@pytest.mark.parametrize(
    ("lifetime", "used"),
    [
        *((3599, 3299), ("3599", 3299), (1e300, 86100)),
        *((lifetime, 150) for lifetime in UNKNOWN_LIFETIMES),
    ],
    ids=str,
)
def test_the_lifetime_of_a_token(monkeypatch, lifetime, used):
    monkeypatch.setattr("corepy.http.bearer_api.time.monotonic", lambda: 1000.0)
    content = json.dumps({"access_token": "abc", "expires_in": lifetime}).encode()
    assert token_of(content) == Token("abc", 1000.0 + used)


def test_a_token_that_is_refused_late_does_not_end_the_next_one():
    names = iter(("a", "b", "c"))

    async def fetch():
        return Token(next(names), float("inf"))

    async def run():
        api = BearerAPI(parse_url("http://127.0.0.1"), fetch)
        first = await api._current()
        for _ in range(2):
            api._forget(first)
            assert (await api._current()).value == "b"

    asyncio.run(run())


def test_a_document_must_be_an_object():
    assert document_of(b'{"a": NaN}')
    for content in (b"", b"3", b'"a"', b"{", b'{"a": 1e}', b"9" * 5000):
        with pytest.raises(OSError, match="the response is not"):
            document_of(content)


def response(status, body=b"{}"):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def failure_of(answer, secrets=()):
    """The error of one request with secrets."""

    async def run(port):
        api = JSONAPI(parse_url(f"http://127.0.0.1:{port}"))
        try:
            await api.get("/", secrets=secrets)
        finally:
            api.close()

    with HTTPRecorder(answer) as server, pytest.raises(OSError, match=r"^127\.0\.0\.1:") as error:
        asyncio.run(run(server.port))
    return error.value


def test_a_secret_is_removed_before_a_text_is_shortened():
    secret = "eyJ0" + "x" * 1000
    document = {"error": {"code": f"c {secret}", "message": f"the token {secret} is bad"}}
    text = str(failure_of(response(401, json.dumps(document).encode()), [secret]))
    assert text.endswith(": HTTP status 401: c ***: the token *** is bad")
    moved = b"HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: https://h/%b\r\n\r\n"
    text = str(failure_of(moved % secret.encode(), [secret]))
    assert text.endswith(": HTTP status 302: redirect to https://h/***, which is not followed")


def test_a_short_secret_is_not_removed_from_words():
    answer = response(400, b'{"error": "invalid"}')
    assert str(failure_of(answer, ["", "valid"])).endswith("HTTP status 400: invalid")


def test_a_refused_connection_has_no_number_of_the_system():
    async def run(port):
        await JSONAPI(parse_url(f"http://127.0.0.1:{port}")).get("/")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)  # keeps the port, and refuses connections
        with pytest.raises(OSError, match="Connection refused") as error:
            asyncio.run(run(port))
    assert str(error.value) == f"127.0.0.1:{port}: Connection refused"


def test_an_unusable_response_has_no_secret():
    echo = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Encoding: the-secret\r\n\r\n"
    assert "is encoded with ***, which" in str(failure_of(echo, ["the-secret"]))


def test_an_error_whose_content_cannot_be_read_has_its_status(monkeypatch):
    monkeypatch.setattr("corepy.http.json_api.CONTENT_TIMEOUT", 0.01)
    monkeypatch.setattr("corepy.http.json_api.LARGEST_DOCUMENT", 10)
    head = b"HTTP/1.1 503 X\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n"
    for content in (b"", b"x" * 100):  # one that does not end, one that is too long
        error = failure_of(head + content)
        assert isinstance(error, APIError)
        assert (error.status, error.retry_after) == (503, 7)
        assert str(error).endswith(": HTTP status 503")


def test_tasks_share_one_token_and_the_path_of_the_server():
    fetched = []

    async def fetch():
        fetched.append(1)
        await asyncio.sleep(0)
        return Token("the-token", float("inf"), (("X-Project", "p"),))

    async def run(url):
        api = BearerAPI(parse_url(url), fetch)
        await asyncio.gather(*(api.get("/list", most=10) for _ in range(3)))
        api.close()

    with HTTPRecorder(response(200)) as server:
        asyncio.run(run(f"http://127.0.0.1:{server.port}/v1/"))
        requests = [server.next() for _ in range(3)]
    assert len(fetched) == 1
    for request in requests:
        assert request.target == "/v1/list"
        assert request.headers["authorization"] == "Bearer the-token"
        assert request.headers["x-project"] == "p"


def test_a_failure_to_get_a_token_is_not_remembered():
    outcomes = [OSError("no token"), Token("a", float("inf"))]

    async def fetch():
        outcome = outcomes.pop(0)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def run(port):
        api = BearerAPI(parse_url(f"http://127.0.0.1:{port}"), fetch)
        with pytest.raises(OSError, match="no token"):
            await api.get("/", most=10)
        assert await api.get("/", most=10) == b"{}"
        api.close()

    with HTTPRecorder(response(200)) as server:
        asyncio.run(run(server.port))


def test_a_refused_token_is_fetched_once_more():
    names = iter(("a", "b", "c"))

    async def fetch():
        return Token(next(names), float("inf"))

    async def run(port):
        api = BearerAPI(parse_url(f"http://127.0.0.1:{port}"), fetch)
        with pytest.raises(APIError, match="HTTP status 401") as error:
            await api.get("/", most=10)
        api.close()
        return error.value

    with HTTPRecorder(response(401)) as server:
        assert asyncio.run(run(server.port)).status == 401
        sent = [server.next().headers["authorization"] for _ in range(2)]
    assert sent == ["Bearer a", "Bearer b"]
