"""Who gets the identifier, and what the directive takes."""

import socket

import dnslib
import pytest

from corepy.dns import Edns, Request, query
from corepy.dns.edns import ede, option
from corepy.plugin import Cacheability
from corepy.testing import Recorder, refusal, run_chain, serve, set_up

NSID = option(3)
NAME = b"\7example\0"


def ask(text, edns, below=None):
    (handler,) = set_up(text).handlers
    request = Request.from_wire(query(NAME, 1, edns=edns))
    return run_chain(request, handler, below or Recorder())


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("nsid", socket.gethostname().encode()),
        ('nsid "ps0"', b"ps0"),
        ('nsid "tf 2"', b"tf 2"),
        ("nsid tf 2", b"tf 2"),
        ("nsid é", "é".encode()),
        (f"nsid {'a' * 512}", b"a" * 512),
    ],
)
def test_identifier(text, data):
    assert ask(text, Edns(options=NSID)).options == option(3, data)


@pytest.mark.parametrize("edns", [None, Edns(), Edns(options=option(10, b"8 octets"))])
def test_only_for_those_who_ask(edns):
    assert ask("nsid a", edns).options == b""


def test_beside_other_options():
    asked = Edns(options=option(10, b"8 octets") + option(3))
    below = Recorder(lambda request: request.error(2, ede=(22, "no")))
    assert ask("nsid a", asked, below).options == ede(22, "no") + option(3, b"a")


def test_an_identifier_from_below_is_replaced():
    def answer(request):
        reply = request.error(0)
        reply.options = option(3, b"upstream")
        return reply

    assert ask("nsid a", Edns(options=NSID), Recorder(answer)).options == option(3, b"a")


@pytest.mark.parametrize("text", ["nsid\nnsid", "nsid a {\nb\n}", f"nsid {'a' * 513}"])
def test_refused(text):
    assert refusal(text).token is not None


def test_a_packet_cache_may_repeat_the_reply():
    assert set_up("nsid").handlers[0].cacheability is Cacheability.SAFE


@pytest.mark.parametrize("tcp", [False, True])
def test_served(tcp):
    with serve(". {\nbind 127.0.0.1\nnsid node-17\nwhoami\n}") as server:
        wire = query(NAME, 1, ident=5, edns=Edns(options=NSID))
        record = dnslib.DNSRecord.parse(server.exchange(wire, tcp=tcp))
    (opt,) = [rr for rr in record.ar if rr.rtype == 41]
    assert [(each.code, each.data) for each in opt.rdata] == [(3, b"node-17")]
