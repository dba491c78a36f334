"""Which requests *console* answers."""

import pytest

from corepy.http import HTTPRequest
from corepy_console.access import Access
from corepy_console.token_file import digest_of

TOKEN = "s3cr3t-t0ken-of-24-chars"
OPEN = Access(None, frozenset({"dns.example"}))
GUARDED = Access(digest_of(TOKEN), frozenset({"dns.example"}))
HOST = {"host": "localhost:8053"}
BEARER = {"authorization": f"Bearer {TOKEN}"}
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def status(access, headers, *, page=False, method="GET", acts=False):
    """Return the status of the refusal, 200 for an answer."""
    request = HTTPRequest(method, "/", headers)
    check = access.refusal_of_page if page else access.refusal_of_data
    refusal = check(request) if page else check(request, acts=acts)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "without_token", "with_token"),
    [
        ("localhost", 200, 200),
        ("LOCALHOST.:9", 200, 200),
        ("127.0.0.1:8053", 200, 200),
        ("127.9.9.9", 200, 200),
        ("[::1]:8053", 200, 200),
        ("dns.example:8053", 200, 200),
        ("10.0.0.7:8053", 403, 200),
        ("0.0.0.0:8053", 403, 200),
        ("[2001:db8::1]", 403, 200),
        ("attacker.example:8053", 403, 403),
        ("localhost.attacker.example", 403, 403),
        ("dns.example.attacker.example", 403, 403),
        ("127.0.0.1.attacker.example", 403, 403),
        ("127.0.0.1@attacker.example", 403, 403),
        ("2130706433", 403, 403),  # 127.0.0.1 as a number, which a browser would rewrite
        ("localhost:80:80", 403, 403),
        ("", 403, 403),
    ],
)
def test_names_of_others_are_not_hosts(host, without_token, with_token):
    """DNS rebinding: a site's own name leads to this server."""
    for page in (True, False):
        assert status(OPEN, {"host": host}, page=page) == without_token
        assert status(GUARDED, {"host": host, **BEARER}, page=page) == with_token


@pytest.mark.parametrize(
    ("headers", "of_data", "of_page"),
    [
        ({}, 200, 200),
        ({"sec-fetch-site": "same-origin"}, 200, 200),
        ({"sec-fetch-site": "none"}, 200, 200),
        ({"sec-fetch-site": "same-site"}, 403, 403),  # another port of this machine
        ({"sec-fetch-site": "cross-site"}, 403, 403),
        ({"sec-fetch-site": "new-value"}, 403, 403),
        ({"sec-fetch-site": "cross-site", **LINK}, 403, 200),
        ({"sec-fetch-site": "cross-site", **LINK, "sec-fetch-dest": "iframe"}, 403, 403),
        ({"origin": "http://localhost:8053"}, 200, 200),
        ({"origin": "HTTP://LOCALHOST:8053"}, 200, 200),
        ({"origin": "https://localhost:8053"}, 200, 200),  # behind a proxy
        ({"origin": "http://localhost:9000"}, 403, 403),
        ({"origin": "http://attacker.example"}, 403, 403),
        ({"origin": "file://localhost:8053"}, 403, 403),
        ({"origin": "null"}, 403, 403),
        ({"origin": "null", "sec-fetch-site": "cross-site", **LINK}, 403, 403),
    ],
)
def test_requests_of_other_sites_are_refused(headers, of_data, of_page):
    assert status(OPEN, HOST | headers) == of_data
    assert status(OPEN, HOST | headers, page=True) == of_page


@pytest.mark.parametrize(
    "value", ["", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", "Bearer \xe4"]
)
def test_a_wrong_token_is_refused(value):
    assert status(GUARDED, HOST | {"authorization": value}) == 401
    assert status(GUARDED, HOST) == 401


def test_the_token_opens_the_data_and_the_page_needs_none():
    for value in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
        assert status(GUARDED, HOST | {"authorization": value}) == 200
    assert status(GUARDED, HOST, page=True) == 200
    # The reasons that hold for all clients come first, so they do not depend on the token.
    assert status(GUARDED, HOST | BEARER | {"origin": "null"}) == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_nothing_can_be_changed(method):
    for page in (True, False):
        assert status(OPEN, HOST, page=page, method=method) == 405


def test_requests_that_act_need_a_header_that_other_sites_cannot_send():
    assert status(OPEN, HOST, acts=True) == 403
    assert status(OPEN, HOST | {"x-corepy-console": ""}, acts=True) == 200
    assert status(GUARDED, HOST | BEARER, acts=True) == 403
