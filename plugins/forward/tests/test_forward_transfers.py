"""What is meant for a zone's own servers is not forwarded."""

from functools import partial

import dnslib
import pytest

from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine


def option(reply: dnslib.DNSRecord) -> bytes | None:
    found = [each.data for record in reply.ar for each in record.rdata if each.code == 15]
    return found[0] if found else None


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("block", ["", "cache\n", "cache {\nserve_stale\n}\n"])
@pytest.mark.parametrize(
    ("qtype", "opcode", "rcode", "text"),
    [
        ("AXFR", 0, 5, b"\0\x15zone transfers are not forwarded"),
        ("IXFR", 0, 5, b"\0\x15zone transfers are not forwarded"),
        ("SOA", 4, 4, None),
        ("AXFR", 4, 4, None),
        ("A", 5, 4, None),
    ],
)
def test_not_forwarded(qtype, opcode, rcode, text, block, tcp):
    asked = []

    def behave(query, proto):
        asked.append(str(query.q.qname))
        return query.reply()

    with Upstream(behave) as upstream:
        text_of_block = f".:0 {{\n{block}forward . {upstream.to} {{\nmax_fails 0\n}}\n}}"
        with serve(text_of_block) as server:
            for _ in range(2):
                name = "example.org"
                reply = server.ask(name, qtype, tcp=tcp, opcode=opcode, edns=1232)
                assert (reply.header.rcode, reply.header.opcode) == (rcode, opcode)
                assert option(reply) == text
            assert server.ask("example.org", "SOA", tcp=tcp).header.rcode == 0
    assert asked == ["example.org."]


def test_a_zone_that_is_not_forwarded_is_left_to_the_next_plugin():
    text = ".:0 {\nforward example.net 192.0.2.1\nwhoami\n}"
    with serve(text) as server:
        assert server.ask("example.org", "AXFR").header.rcode == 0
