"""The table of odd refusals: each rcode, whole and as a bare header. See `corepy.testing.outcomes`
for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.client_kinds import CLIENTS
from corepy.testing.crossing import Outcome
from corepy.testing.outcomes import CONFIGS, Row, check

VAGUE = ("SERVFAIL", "REFUSED")
WITH_OPTIONS = ("client subnet", "unknown option")
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))

WITHOUT_EDNS = "an error may mean EDNS (RFC 6891 section 7): asked once more without; then it holds"
OWN_OPTIONS = "a client's own options are not taken away from it (CoreDNS relays the error, too)"
BARE = (
    "RFC 5452 section 9.1: a header proves no question, so over UDP it is asked again, without EDNS, and"
    " then over a stream, where nobody forges; there it holds"
)


def refused(rcode, *, kept="", **parts):
    """Return a row for an error of a server that may mean EDNS, the cookie in it first of all."""
    if rcode in VAGUE:
        return Row(
            f"{WITHOUT_EDNS}; {OWN_OPTIONS}",
            Outcome(rcode, **parts),
            "udp+ udp",
            stream_asked="tcp+ tcp",
            asked_by=dict.fromkeys(WITH_OPTIONS, ("udp+", "tcp+")),
            kept=kept,
        )
    return Row(
        WITHOUT_EDNS, Outcome(rcode, **parts), "udp+ udp+ udp", stream_asked="tcp+ tcp", kept=kept
    )


def bare(rcode, outcome, kept=""):
    if rcode in VAGUE:
        row = Row(BARE, outcome, "udp+ udp tcp", stream_asked="tcp+ tcp", kept=kept)
        row.asked_by = dict.fromkeys(WITH_OPTIONS, ("udp+ tcp+", "tcp+"))
        return row
    return Row(BARE, outcome, "udp+ udp+ udp tcp", stream_asked="tcp+ tcp", kept=kept)


TABLE = {
    "formerr": refused("FORMERR"),
    "servfail": refused("SERVFAIL", kept="failure 5"),
    "notimp": refused("NOTIMP", kept="failure 5"),
    "refused": refused("REFUSED"),
    "refused-for-a": refused("REFUSED"),
    "refused-with-records": refused("REFUSED", authority=(". 60 NS a.root-servers.net.",)),
    "servfail-with-answer": refused("SERVFAIL", answer=(ADDRESS,), kept="failure 5"),
    "servfail-then-good": Row(
        f"{WITHOUT_EDNS}; an upstream that took EDNS before is believed",
        Outcome(answer=(ADDRESS,)),
        "udp+ udp",
        stream_asked="tcp+ tcp",
        clients=dict.fromkeys(WITH_OPTIONS, Outcome("SERVFAIL")),
        asked_by=dict.fromkeys(WITH_OPTIONS, ("udp+", "tcp+")),
        kept="success 60",
        after_good=dict.fromkeys(CLIENTS, Outcome("SERVFAIL")),
    ),
    "yxdomain": Row("RFC 2136 section 2.2: no error that EDNS could cause", Outcome("YXDOMAIN")),
    "notauth": Row("RFC 2136 section 2.2: no error that EDNS could cause", Outcome("NOTAUTH")),
    "bare-formerr": bare("FORMERR", Outcome("FORMERR")),
    "bare-servfail": bare("SERVFAIL", Outcome("SERVFAIL"), kept="failure 5"),
    "bare-notimp": bare("NOTIMP", Outcome("NOTIMP"), kept="failure 5"),
    "bare-refused": bare("REFUSED", Outcome("REFUSED")),
    "bare-noerror": bare("NOERROR", UNREACHABLE, kept="failure 1"),
    "bare-nxdomain": bare("NXDOMAIN", UNREACHABLE, kept="failure 1"),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("refusals")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
