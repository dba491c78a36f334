"""*tsig* in whole servers, with dig and kdig as clients, which verify the replies."""

import base64
import dataclasses
import re
import subprocess

import pytest

from corepy.dns import Request, names, query
from corepy.dns import constants as c
from corepy.dns.tsig import TSIGKey
from corepy.dns.tsig_exchange import SignedExchange
from corepy.plugin import Cacheability, Handler
from corepy.testing import make_request, run_chain, serve, set_up, with_handlers
from corepy.testing.chain import Recorder

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(32)).decode()
KEY = TSIGKey(names.from_text("key.example."), bytes(range(32)))
OTHER_KEY = dataclasses.replace(KEY, secret=bytes(32))
ANSWER = 'template IN ANY {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'


def corefile(*lines, zones="", zone="."):
    body = "\n".join(lines)
    return (
        f"{zone} {{\nbind 127.0.0.1\ntsig {zones} {{\nsecret Key.example {SECRET}\n{body}\n}}\n"
        f"cache 3600\n{ANSWER}\n}}\n"
    )


def run(server, *words):
    host, port = server.address
    command = [words[0], f"@{host}", "-p", str(port), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def status(text):
    return re.search(r"status: (\w+)", text)[1]


@pytest.mark.parametrize("tool", ["dig", "kdig"])
@pytest.mark.parametrize("algorithm", ["hmac-sha1", "hmac-sha512"])
def test_clients_verify_the_reply(tool, algorithm):
    key = f"{algorithm}:key.example:{SECRET}"
    with serve(corefile("require all")) as server:
        for transport in ("+notcp", "+tcp"):
            text = run(server, tool, "www.example.org", "A", transport, "-y", key)
            assert status(text) == "NOERROR"
            assert "192.0.2.1" in text
            assert "PSEUDOSECTION" in text
            assert not re.search(r"verif|not match", text, re.IGNORECASE)
            assert status(run(server, tool, "www.example.org", "A", transport)) == "REFUSED"
        assert server.packet_entries == 0


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (f"hmac-sha256:unknown.example:{SECRET}", "BADKEY"),
        (f"hmac-sha256:key.example:{OTHER}", "BADSIG"),
    ],
)
def test_clients_read_the_error(key, error):
    with serve(corefile()) as server:
        text = run(server, "dig", "www.example.org", "A", "-y", key)
        assert status(text) == "NOTAUTH"
        assert f" {error} " in text
        assert status(run(server, "dig", "www.example.org", "A")) == "NOERROR"


def test_a_signed_query_is_not_answered_from_the_packet_cache():
    """Nor an unsigned one by a reply to a signed one, although a signature is not required."""
    with serve(corefile()) as server:
        for _ in range(2):
            assert server.ask("www.example.org").header.rcode == 0
        assert server.packet_entries == 1
        exchange = SignedExchange(KEY)
        wire = query(names.from_text("www.example.org."), 1, ident=7)
        assert exchange.verify(server.exchange(exchange.sign(wire)))[6:8] == b"\0\1"
        exchange.finish()
        assert server.packet_entries == 1


def test_a_record_that_is_repeated_earlier_is_refused_on_every_transport():
    key = dataclasses.replace(KEY, name=names.from_text("earlier.example."))
    text = corefile(f"secret earlier.example {SECRET}", "refuse_earlier")
    wire = query(names.from_text("www.example.org."), 1, ident=7)
    with serve(text) as server:
        now = SignedExchange(key)._clock()
        first, second = (SignedExchange(key, lambda at=it: at).sign(wire) for it in (now, now - 2))
        assert server.exchange(second)[3] & 15 == 0
        assert server.exchange(first)[3] & 15 == 0
        for tcp in (False, True):
            reply = server.exchange(second, tcp=tcp)
            assert reply[3] & 15 == c.NOTAUTH
            assert c.RCODES["BADTIME"].to_bytes(2, "big") + b"\0\6" in reply
        server.reload(text.replace("refuse_earlier", ""))
        assert server.exchange(second)[3] & 15 == 0


UPDATE = "update add www.example.org 60 A 192.0.2.1\nsend\n"


@pytest.mark.parametrize(("key", "is_signed"), [(KEY, True), (OTHER_KEY, False), (None, False)])
def test_the_refusal_of_a_signed_update_is_signed(key, is_signed):
    """CoreDNS does not sign it, so clients report an error of the signature."""
    wire = query(names.from_text("example.org."), 6, ident=7)
    wire = wire[:2] + b"\x28" + wire[3:]
    with serve(corefile()) as server:
        sent = wire if key is None else SignedExchange(key).sign(wire)
        reply = server.exchange(sent)
    assert reply[3] & 15 == c.NOTIMP
    assert (reply[10:12] == b"\0\1") is is_signed
    assert (len(reply) == 12) is not is_signed


def test_nsupdate_reads_the_refusal():
    with serve(corefile()) as server:
        host, port = server.address
        text = f"server {host} {port}\nzone example.org\n{UPDATE}"
        command = ["nsupdate", "-y", f"hmac-sha256:key.example:{SECRET}"]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.stderr == "update failed: NOTIMP\n"


class Fails(Handler):
    name = "fails"
    cacheability = Cacheability.SAFE

    async def serve_dns(self, request):
        raise ValueError("boom")


def test_failures_are_signed():
    text = corefile("require all", zone="example.org").replace(ANSWER, "fails")
    with serve(text, plugins=with_handlers(fails=Fails)) as server:
        for name, rcode in (("a.example.org.", c.SERVFAIL), ("a.example.com.", c.REFUSED)):
            exchange = SignedExchange(KEY)
            wire = query(names.from_text(name), 1, ident=7)
            assert exchange.verify(server.exchange(exchange.sign(wire)))[3] & 15 == rcode


# -- which queries need a signature


@pytest.mark.parametrize(
    ("lines", "qtype", "opcode", "is_refused"),
    [
        ((), "A", 0, False),
        (("require A",), "A", 0, True),
        (("require A",), "AAAA", 0, False),
        (("require all",), "AAAA", 0, True),
        (("require none",), "A", 0, False),
        (("require_opcode NOTIFY",), "SOA", 4, True),
        (("require_opcode NOTIFY",), "SOA", 0, False),
        (("require_opcode all",), "A", 0, True),
        (("require SOA",), "SOA", 4, True),
    ],
)
@pytest.mark.parametrize("name", ["a.example.org.", "example.com."])
def test_what_must_be_signed(lines, qtype, opcode, is_refused, name):
    controller = set_up("tsig example.org {\n" + "\n".join(lines) + "\n}")
    below = Recorder()
    reply = run_chain(make_request(name, qtype, opcode=opcode), *controller.handlers, below)
    is_refused = is_refused and name == "a.example.org."
    assert (reply.wire[3] & 15 == c.REFUSED, len(below.requests)) == (is_refused, not is_refused)


def identified(name="a.example.org.", error=0):
    """A request with a verdict about its signature."""
    request = Request.from_wire(SignedExchange(KEY).sign(query(names.from_text(name), 1)))
    assert request.identity.tsig is not None
    tsig = dataclasses.replace(request.identity.tsig, error=error)
    request.identity = dataclasses.replace(request.identity, tsig=tsig)
    return request


@pytest.mark.parametrize(
    ("error", "rcode"), [(0, 0), (16, c.NOTAUTH), (18, c.NOTAUTH), (None, c.NOTAUTH)]
)
def test_an_invalid_signature_is_refused_in_the_zones_only(error, rcode):
    (handler,) = set_up("tsig example.org").handlers
    reply = run_chain(identified(error=error), handler, Recorder())
    assert reply.wire[3] & 15 == rcode
    assert (reply.error is None) == (rcode == 0)
    assert run_chain(identified("example.com.", error), handler, Recorder()).wire[3] & 15 == 0


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (make_request("example.com."), {"state": "passed: the name is outside its zones"}),
        (make_request("example.org."), {"state": "unsigned"}),
        (make_request("example.org.", "MX"), {"state": "refused: unsigned", "required for": "MX"}),
        (
            make_request("example.org.", opcode=4),
            {"state": "refused: unsigned", "required for": "NOTIFY"},
        ),
        (identified(), {"state": "signed", "key": "key.example."}),
        (identified(error=18), {"state": "BADTIME", "key": "key.example."}),
        (identified(error=None), {"state": "BADKEY", "key": "key.example."}),
    ],
    ids=["outside", "unsigned", "type", "opcode", "signed", "BADTIME", "BADKEY"],
)
def test_the_state_for_explain(request_, state):
    (handler,) = set_up("tsig example.org {\nrequire MX\nrequire_opcode NOTIFY\n}").handlers
    assert handler.explain_state(request_) == state
