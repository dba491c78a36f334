"""Requests to a stand-in for Nomad: credentials, failover, and every kind of failure."""

import asyncio
import re
import ssl
import threading
from types import SimpleNamespace

import pytest

from corepy.http.http_client import HTTPTarget, parse_url
from corepy.plugin.tls_client import TLSFiles
from corepy.testing import helper_module
from corepy.testing.certificates import Authority
from corepy.testing.polling import until
from corepy_nomad import client as client_module
from corepy_nomad.access import Access, Address
from corepy_nomad.client import NomadClient
from corepy_nomad.environment import Environment
from corepy_nomad.errors import NomadError
from corepy_nomad.tls import TLSSettings, create_context

NomadStub = helper_module(__file__, "nomad_stub").NomadStub
TOKEN = "b8d4f0b7-0000-1111-2222-token-of-tests"
REFUSED = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _not_late(monkeypatch):
    """Let no response be late on a busy machine."""
    for name in ("TIMEOUT", "TIMEOUT_OF_SEVERAL"):
        monkeypatch.setattr(client_module, name, 60.0)


@pytest.fixture
def stub():
    with NomadStub() as server:
        server.put("web", "192.0.2.1", ("192.0.2.1", 81))
        yield server


def client_of(*urls, tls=None, **access):
    addresses = [Address(parse_url(url)) for url in urls]
    settings = tls or TLSSettings()
    return NomadClient(
        addresses, Access(**access), lambda: create_context(settings), settings.server_name or None
    )


def run(client, method, *arguments):
    """Call a method once, and close the client."""

    async def call():
        try:
            return await getattr(client, method)(*arguments)
        finally:
            client.close()

    return asyncio.run(call())


def failure(client, method="names", arguments=("default",)):
    """The error of a call."""
    with pytest.raises(OSError, match=r".") as info:
        run(client, method, *arguments)
    assert TOKEN not in str(info.value)
    return info.value


def always(status=200, body=b"", **headers):
    """A fault that is the response to all requests."""
    return lambda path, parameters: (status, headers, body)


def test_the_names_of_a_namespace(stub):
    names = run(client_of(stub.url), "names", "default")
    assert names.reached == stub.index
    assert names.found.names == {"web"}
    assert run(client_of(stub.url), "names", "other").found.names == set()


def test_the_instances_of_a_service(stub):
    client = client_of(stub.url, region="eu", filter='"db" in Tags')
    assert run(client, "instances", "default", "web") == (
        [("192.0.2.1", 8080), ("192.0.2.1", 81)],
        0,
    )
    assert run(client, "instances", "default", "other") == ([], 0)
    parameters = {"namespace": "default", "region": "eu", "filter": '"db" in Tags'}
    assert stub.requests[0] == ("/v1/service/web", parameters)


def test_odd_characters_stay_a_part_of_the_path(stub):
    stub.put("a/../b?c#d e%2F", "192.0.2.2", namespace="x&y=z")
    found, _ = run(client_of(stub.url), "instances", "x&y=z", "a/../b?c#d e%2F")
    assert found == [("192.0.2.2", 8080)]


def test_a_change_ends_the_wait(stub):
    async def wait():
        client = client_of(stub.url)
        names = await client.names("default")
        later = asyncio.create_task(client.names("default", names.reached, 60.0))
        await until(lambda: any("index" in parameters for _, parameters in stub.requests))
        stub.put("db", "192.0.2.3")
        found = (await later).found.names
        unchanged = await client.names("default", stub.index, 0.001)
        client.close()
        return found, unchanged, stub.requests[1]

    found, unchanged, (path, parameters) = asyncio.run(wait())
    assert found == {"web", "db"}
    assert (unchanged.found, unchanged.reached) == (None, stub.index)
    assert path == "/v1/services"
    assert parameters == {"namespace": "default", "index": "11", "wait": "60000ms"}


@pytest.mark.parametrize("index", ["", "x", "-1", "1.5", "²", "9" * 21, str(1 << 64)])
def test_an_index_that_is_none(stub, index):
    stub.fault = always(body=b"[]", **({"X-Nomad-Index": index} if index.isascii() else {}))
    assert run(client_of(stub.url), "names", "default").reached == 0


def test_credentials(stub):
    stub.token = TOKEN
    authorization = Environment({"NOMAD_HTTP_AUTH": "me:pw"}).authorization
    client = client_of(stub.url, token=TOKEN, authorization=authorization)
    assert run(client, "names", "default").found.names == {"web"}
    assert stub.headers[-1]["x-nomad-token"] == TOKEN
    assert stub.headers[-1]["authorization"] == "Basic bWU6cHc="
    url = stub.url.replace("://", "://you:pw@")
    run(client_of(url, token=TOKEN, authorization=authorization), "names", "default")
    assert stub.headers[-1]["authorization"] == "Basic eW91OnB3"


def test_a_token_is_refused(stub):
    stub.token = TOKEN
    error = failure(client_of(stub.url))
    prefix = f"{stub.url}: HTTP status 403: "
    assert str(error) == f"{prefix}Permission denied; set the token, or NOMAD_TOKEN"
    error = failure(client_of(stub.url, token="other"))
    assert str(error) == f"{prefix}ACL token not found; correct the token"
    stub.permitted = {"prod"}
    error = failure(client_of(stub.url, token=TOKEN))
    right = "the token needs the right read-job in the namespace"
    assert str(error) == f"{prefix}Permission denied; {right}"


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (301, b"", "HTTP status 301; redirects are not followed: correct the address"),
        (400, b"bad filter", "HTTP status 400: bad filter; correct the filter"),
        (401, b"", "HTTP status 401; set NOMAD_HTTP_AUTH, or correct it"),
        (404, b"", "HTTP status 404; Nomad has this endpoint since version 1.3"),
        (429, b"", "HTTP status 429; raise http_max_conns_per_client of Nomad"),
        (500, b"No cluster leader", "HTTP status 500: No cluster leader"),
        (500, b"a\r\n\x1b[1m\xff", "HTTP status 500: a [1m\ufffd"),
        (502, b"x" * 300, f"HTTP status 502: {'x' * 160}..."),
        (503, b"x" * 5000, "HTTP status 503"),
        (500, f"who is {TOKEN}?".encode(), "HTTP status 500: who is ***?"),
        (500, b"x" * 150 + TOKEN.encode(), f"HTTP status 500: {'x' * 150}***"),
    ],
)
def test_errors_of_nomad(stub, status, body, text):
    stub.fault = always(status, body)
    error = failure(client_of(stub.url, token=TOKEN, filter="f"))
    assert str(error) == f"{stub.url}: {text}"
    assert isinstance(error, NomadError)
    assert error.status == status


def test_retry_after(stub):
    stub.fault = always(429, **{"Retry-After": "7"})
    assert failure(client_of(stub.url)).retry_after == 7


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b"<html>Login</html>",
            "the response is malformed: the list of services is not a JSON arr",
        ),
        (b'[{"Namespace":"default","Serv', "the response is malformed: "),
        (b"", "the response is malformed: the list of services ends early"),
        (b"{}", "the response is malformed: the list of services is not a JSON array"),
    ],
)
def test_malformed_responses(stub, body, text):
    stub.fault = always(body=body)
    assert str(failure(client_of(stub.url))).startswith(f"{stub.url}: {text}")
    error = failure(client_of(stub.url), "instances", ("default", "web"))
    assert str(error).startswith(f"{stub.url}: the response is malformed: ")


def test_a_response_that_is_cut_off(stub):
    stub.fault = always(body=b"[", **{"Content-Length": "100", "Connection": "close"})
    text = "the connection was closed within the response"
    assert str(failure(client_of(stub.url))) == f"{stub.url}: {text}"
    stub.fault = lambda path, parameters: b""
    text = "the connection was closed without a response"
    assert str(failure(client_of(stub.url))) == f"{stub.url}: {text}"


def test_a_response_that_is_too_long(stub, monkeypatch):
    monkeypatch.setattr(client_module, "LARGEST", 10)
    assert "it has more than 10 bytes" in str(failure(client_of(stub.url)))


def test_responses_are_decoded_in_turn(monkeypatch):
    async def decode():
        client, turn, fed = client_of(REFUSED), 0, []
        reader = SimpleNamespace(feed=lambda data: fed.append(turn))
        tasks = [asyncio.create_task(client._feed(reader, b"abc")) for _ in range(3)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            turn += 1
        return fed

    monkeypatch.setattr(client_module, "PORTION", 1)
    fed = asyncio.run(decode())
    assert len(set(fed)) == len(fed) == 9


def test_a_response_that_trickles(stub, monkeypatch):
    monkeypatch.setattr(client_module, "LONGEST_RESPONSE", 0.01)
    stub.fault = always(body=b"[", **{"Content-Length": "100"})
    text = "the response takes more than 0.01 s"
    assert str(failure(client_of(stub.url))) == f"{stub.url}: {text}"


def test_failover_remembers_the_good_address(stub):
    with NomadStub() as other:
        other.put("web", "192.0.2.9")
        client = client_of(REFUSED, stub.url, other.url)
        assert run(client, "instances", "default", "web")[0][0].address == "192.0.2.1"
        assert client.address == stub.url
        run(client, "names", "default")
        assert len(stub.requests) == 2
        for status in (500, 404, 301, 429):
            client = client_of(stub.url, other.url)
            stub.fault = always(status)
            assert run(client, "instances", "default", "web")[0][0].address == "192.0.2.9"
            assert client.address == other.url
        other.fault = always(403, b"Permission denied")  # another address would refuse it, too
        failure(client)
        assert client.address == other.url
        other.fault = always(body=b"<html>")
        failure(client)
        assert client.address == stub.url


def test_responses_that_are_malformed_at_the_same_time(stub):
    async def ask_both(client):
        names = [client.names("default") for _ in range(2)]
        found = await asyncio.gather(*names, return_exceptions=True)
        client.close()
        return [str(it) for it in found]

    def fault(path, parameters):
        both.wait(60)
        return 200, {}, b"<html>"

    both = threading.Barrier(2)
    stub.fault = fault
    with NomadStub() as other:
        client = client_of(stub.url, other.url)
        for text in asyncio.run(ask_both(client)):
            assert text.startswith(f"{stub.url}: the response is malformed")
        assert client.address == other.url


def test_the_failures_of_all_addresses_are_shown_and_not_repeated(stub, monkeypatch):
    stub.fault = always(500, b"No cluster leader")
    client = client_of(stub.url, REFUSED)
    reason = f"{stub.url}: HTTP status 500: No cluster leader; {REFUSED}: Connection refused"
    assert str(failure(client)) == reason
    assert len(stub.requests) == 1
    stub.fault = lambda path, parameters: b""
    text = str(failure(client))
    asked = len(stub.requests)
    assert str(failure(client)) == text  # without a request
    assert len(stub.requests) == asked
    monkeypatch.setattr(client, "_unreachable", (0.0, ""))
    stub.fault = always(body=b"[]")
    assert run(client, "names", "default").found.names == set()


def test_nomad_that_does_not_respond(stub, monkeypatch):
    """On a busy machine, even a connection may take longer."""
    ended = threading.Event()
    stub.fault = lambda path, parameters: b"" if ended.wait(60) else None
    client = client_of(stub.url)
    monkeypatch.setattr(client_module, "TIMEOUT", 0.01)
    late = re.escape(f"{stub.url}: ") + "(no response within {} s|no connection to .*)"
    assert re.fullmatch(late.format("0.01"), str(failure(client)))
    monkeypatch.setattr(client_module, "TIMEOUT_OF_SEVERAL", 0.02)
    reason = str(failure(client_of(stub.url, stub.url)))
    assert re.fullmatch("; ".join([late.format("0.02")] * 2), reason)
    ended.set()


def test_the_probe_needs_no_right(stub):
    run(client_of(stub.url), "probe")
    assert stub.requests[-1] == ("/v1/agent/self", {})
    stub.token = TOKEN
    run(client_of(stub.url, token=TOKEN), "probe")  # Permission denied
    assert "ACL token not found" in str(failure(client_of(stub.url, token="x"), "probe", ()))


def test_a_socket_of_the_unix_domain(tmp_path):
    path = str(tmp_path / "api.sock")
    client = NomadClient([Address(HTTPTarget("http", "127.0.0.1", 80, ""), path)], Access())
    error = failure(client)
    assert str(error) == f"unix://{path}: No such file or directory"
    with NomadStub(path=path) as stub:
        stub.put("web", "192.0.2.1")
        client = NomadClient([Address(HTTPTarget("http", "127.0.0.1", 80, ""), path)], Access())
        assert run(client, "names", "default").found.names == {"web"}
        assert stub.headers[-1]["host"] == "127.0.0.1"
        assert client.address == stub.url


def test_tls_with_a_client_certificate(tmp_path):
    authority, other = Authority(), Authority()
    own = authority.issue(tmp_path, "server.global.nomad")
    mine = authority.issue(tmp_path, "corepy.example", label="client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    context.load_verify_locations(own.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    files = TLSFiles(mine.certificate, mine.key, own.authority)
    name = "server.global.nomad"
    with NomadStub(context=context) as stub:
        stub.put("web", "192.0.2.1")
        client = client_of(stub.url, tls=TLSSettings(files, server_name=name))
        assert run(client, "names", "default").found.names == {"web"}
        error = failure(client_of(stub.url, tls=TLSSettings(files)))
        assert "certificate verify failed" in str(error)
        client = client_of(stub.url, tls=TLSSettings(files, skips_verification=True))
        assert run(client, "names", "default").found.names == {"web"}
        wrong = other.issue(tmp_path, "x.example", label="other").authority
        tls = TLSSettings(TLSFiles(mine.certificate, mine.key, wrong), server_name=name)
        assert "certificate verify failed" in str(failure(client_of(stub.url, tls=tls)))
        without = TLSSettings(TLSFiles(ca=own.authority), server_name=name)
        failure(client_of(stub.url, tls=without))
        mine.key.unlink()  # files are read again for each connection
        error = failure(client_of(stub.url, tls=TLSSettings(files, server_name=name)))
        assert "No such file" in str(error)
