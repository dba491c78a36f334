"""Whole servers, asked over real sockets."""

import dnslib
import pytest
from corepy.plugin import metrics
from corepy.testing import free_port, http_get, make_request, run_chain, serve, set_up
from corepy.testing.command import wait_until

TEXT = """
. {
    example example.org {
        text "Hello, world"
        ttl 2m
    }
    whoami
}
"""


@pytest.fixture(scope="module")
def server():
    with serve(TEXT) as running:
        yield running


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("name", ["example.org.", "WWW.Example.ORG."])
def test_txt_is_answered(server, name, tcp):
    reply = server.ask(name, "TXT", tcp=tcp)
    (record,) = reply.rr
    assert str(record.rname) == name
    assert str(record.rdata) == '"Hello, world"'
    assert record.ttl == 120
    assert reply.header.aa


@pytest.mark.parametrize(("name", "qtype"), [("example.org.", "A"), ("example.com.", "TXT")])
def test_the_rest_is_passed_on(server, name, qtype):
    reply = server.ask(name, qtype)
    assert reply.header.rcode == dnslib.RCODE.NOERROR
    assert not reply.rr
    assert reply.ar, "whoami answers in the additional section"


def test_answers_are_counted(server):
    (counter,) = (it for it in metrics.registered() if it.name == "coredns_example_answers_total")
    child = counter.labels(f"dns://:{server.address[1]}")
    before = child.value
    server.ask("example.org.", "TXT")
    server.ask("example.org.", "A")
    assert child.value == before + 1


def test_ready_and_metadata():
    port = free_port()
    with serve(f". {{\n ready 127.0.0.1:{port}\n example example.org\n}}"):
        wait_until(lambda: http_get(port, "/ready").text == "OK")
    (handler,) = set_up("example example.org org").handlers
    assert handler.metadata(make_request("a.example.org.")) == {"example/zone": "example.org."}
    assert handler.metadata(make_request("example.com.")) is None


def test_a_handler_alone():
    (handler,) = set_up("example example.org").handlers
    reply = run_chain(make_request("example.org.", "TXT"), handler)
    assert reply.ancount == 1
