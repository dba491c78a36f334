"""The table of odd datagrams: lost, late, doubled, forged, malformed. See `corepy.testing.outcomes`
for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.crossing import Outcome
from corepy.testing.outcomes import CONFIGS, Row, check, relayed

GOOD = Outcome(answer=(ADDRESS,))
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))
"""Ours, when nothing came back (RFC 8914 section 4.23, No Reachable Authority)."""

NETWORK = Outcome("SERVFAIL", flags="", ede=(23,))
"""Ours, when something came back that is no answer (RFC 8914 section 4.24, Network Error)."""

UNSEEN = (
    "RFC 5452 section 9.1: what does not match the question in flight is not seen; the wait goes on"
)
LOST = "a datagram without a reply is sent again within a second, without EDNS (RFC 6891 section 6.2.2)"
OVER_TCP = "a second loss may be UDP's: asked over TCP"
MALFORMED = "malformed (RFC 9267): asked again over TCP, where nothing is cut, then without EDNS"


def malformed():
    return Row(
        MALFORMED,
        NETWORK,
        "~udp+ tcp+ udp tcp",
        stream_asked="~tcp+ tcp",
        kept="failure 1",
    )


def unanswered(why, outcome, stream_asked):
    forced = stream_asked.removesuffix(" udp+")
    return Row(
        why, outcome, "~udp+ udp tcp+", outcome, stream_asked, outcome, forced, kept="failure 1"
    )


def answers_something_else():
    return Row(
        f"{UNSEEN}; over a stream nobody can forge it: the attempt ends at once, and so do the others",
        NETWORK,
        "~udp+ udp tcp+",
        stream_asked="~tcp+ tcp",
        kept="failure 1",
    )


TABLE = {
    "good": relayed("RFC 1035", ADDRESS, kept="success 60"),
    "answers-twice": relayed("the second is no reply to anything", ADDRESS, kept="success 60"),
    "late": relayed("patience is longer than 0.6 seconds", ADDRESS, shared=False, kept="success 60"),
    "silent": unanswered(
        "glibc gives up after 5 seconds, so a client is told before", UNREACHABLE, "~tcp+ tcp udp+"
    ),
    "drops-first": Row(LOST, GOOD, "udp+ udp", kept="success 60"),
    "drops-two": Row(f"{LOST}; {OVER_TCP}", GOOD, "~udp+ udp tcp+", stream_asked="tcp+", kept="success 60"),
    "from-another-port": Row(
        f"{UNSEEN}; {OVER_TCP}", GOOD, "~udp+ udp tcp+", stream_asked="tcp+", kept="success 60"
    ),
    "rate-limited": Row(
        "RFC 7766 section 5: a truncated reply is asked again over TCP", GOOD, "udp+ tcp+", kept="success 60"
    ),
    "rate-limited-silently": Row(
        f"{LOST}; RFC 7766 section 5: then asked over TCP", GOOD, "~udp+ udp tcp", stream_asked="tcp+", kept="success 60"
    ),
    "question-in-another-case": relayed(
        "RFC 4343 section 3: names match in any case; the client's own comes back to it",
        ADDRESS, kept="success 60",
    ),
    "forged-from-another-port": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "wrong-id-first": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "wrong-question-first": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "wrong-type-first": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "query-back-first": relayed(
        "RFC 1035 section 4.1.1: QR tells replies from queries", ADDRESS, kept="success 60"
    ),
    "another-opcode-first": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "scraps-first": relayed(UNSEEN, ADDRESS, kept="success 60"),
    "floods-with-wrong-ids": Row(
        f"{UNSEEN}; a hundred of them are guesses, so it is asked over TCP (RFC 5452 section 9.2)",
        GOOD, "udp+ tcp+", stream_asked="tcp+", kept="success 60",
    ),
    "only-wrong-ids": unanswered(UNSEEN, UNREACHABLE, "~tcp+ tcp udp+"),
    "only-wrong-questions": answers_something_else(),
    "question-of-another-class": answers_something_else(),
    "no-question": answers_something_else(),
    "two-questions": answers_something_else(),
    "cut-without-tc": Row(MALFORMED, GOOD, "udp+ tcp+", kept="success 60"),
    "trailing-bytes": relayed("miekg/dns ignores what follows the last record", ADDRESS, kept="success 60"),
    "trailing-opt": relayed("what is not counted is not there", ADDRESS, kept="success 60"),
    "pointer-to-itself": malformed(),
    "pointers-in-a-circle": malformed(),
    "pointer-forward": malformed(),
    "pointer-into-the-header": malformed(),
    "unknown-label-type": malformed(),
    "more-records-counted-than-there": malformed(),
    "address-of-three-bytes": relayed(
        "a forwarder does not read rdata (CoreDNS does, and answers SERVFAIL)",
        "@ 60 TYPE1 \\# c00002", kept="success 60",
    ),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("datagrams", "malformed")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
