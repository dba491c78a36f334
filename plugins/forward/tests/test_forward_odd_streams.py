"""The table of odd streams: truncated replies, and connections that are refused, silent, or end.
See `corepy.testing.outcomes` for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.crossing import Outcome
from corepy.testing.outcomes import CONFIGS, NEED_EDNS, Row, check, relayed

GOOD = Outcome(answer=(ADDRESS,))
MANY = Outcome(answer=tuple(f"@ 60 A 192.0.2.{number}" for number in range(1, 41)))
CUT = Outcome(answer=MANY.answer[:2], flags="ra tc")
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))
NETWORK = Outcome("SERVFAIL", flags="", ede=(23,))

OVER_TCP = "RFC 7766 section 5: a truncated reply is asked again over TCP"
RELEASED = (
    "RFC 2181 section 9: TC tells the client all; it waits no longer than TCP usually takes, and a"
    " client over TCP, which has no use for it, gets SERVFAIL"
)
NO_TCP = "RFC 7766 section 5 demands TCP; where it fails UDP is asked, for as much as it carries"
ENDED = "RFC 7766 section 6.2.4: a connection that ends says nothing of the query, asked again"

OVER_STREAMS = {"TCP": "failure 1", "pipelined": "failure 1"}


def truncated(why=OVER_TCP, outcome=MANY, kept="success 60"):
    return Row(why, outcome, "udp+ tcp+", kept=kept)


TABLE = {
    "truncates": truncated(),
    "truncates-empty": truncated(),
    "truncates-in-a-record": truncated(),
    "huge": truncated(
        OVER_TCP, Outcome(answer=tuple(f"@ 60 A 10.{n >> 8}.{n & 255}.1" for n in range(3745)))
    ),
    "larger-than-asked-for": relayed(
        "it is whole; a client gets what it takes of it, with TC",
        *(f"@ 60 A 10.{n >> 8}.{n & 255}.1" for n in range(185)), kept="success 60",
    ),
    "truncates-over-tcp": truncated(
        "TC over TCP is the upstream's last word (CoreDNS); not kept (RFC 2181 section 9)", CUT, ""
    ),
    "truncates-without-tcp": Row(
        f"{NO_TCP}; {RELEASED}",
        CUT, "udp+ udp+", NETWORK, "udp+", NETWORK, "", kept="", kept_by=OVER_STREAMS,
    ),
    "no-tcp": Row(NO_TCP, GOOD, "udp+", GOOD, "udp+", NETWORK, "", kept="success 60"),
    "truncates-and-tcp-is-silent": Row(
        RELEASED,
        CUT, "~udp+ tcp+", UNREACHABLE, "~tcp+ tcp udp+", UNREACHABLE, "~tcp+ tcp",
        kept="", kept_by=OVER_STREAMS,
    ),
    "truncates-and-tcp-is-reset": Row(
        RELEASED,
        CUT, "~udp+ tcp+", NETWORK, "~tcp+ udp+ tcp", NETWORK, "~tcp+ tcp",
        kept="", kept_by=OVER_STREAMS,
    ),
    "truncates-and-tcp-ends-in-the-answer": Row(
        RELEASED,
        CUT, "~udp+ tcp+ udp tcp", NETWORK, "~tcp+ tcp", NETWORK, "~tcp+ tcp",
        asked_by=dict.fromkeys(NEED_EDNS, ("~udp+ tcp+", "~tcp+ tcp")),
        kept="", kept_by=OVER_STREAMS,
    ),
    "tcp-is-silent": Row(
        NO_TCP, GOOD, "udp+", GOOD, "~tcp+ tcp udp+", UNREACHABLE, "~tcp+ tcp", kept="success 60"
    ),
    "tcp-is-reset": Row(
        NO_TCP, GOOD, "udp+", GOOD, "~tcp+ udp+", NETWORK, "~tcp+ tcp", kept="success 60"
    ),
    "tcp-is-reset-once": Row(ENDED, GOOD, stream_asked="tcp+ tcp+", kept="success 60"),
    "tcp-resets-in-the-answer-once": Row(ENDED, GOOD, stream_asked="tcp+ tcp+", kept="success 60"),
    "tcp-closes-after-each-answer": relayed(
        "RFC 1035 section 4.2.2 allows it", ADDRESS, shared=False, kept="success 60"
    ),
    "tcp-byte-by-byte": relayed(
        "RFC 7766 section 8: a stream has no packets", ADDRESS, kept="success 60"
    ),
    "tcp-empty-frame-first": relayed(
        "a message without a header is none", ADDRESS, kept="success 60"
    ),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("streams")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
