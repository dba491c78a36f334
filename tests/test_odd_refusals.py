"""The table of odd refusals: each rcode, whole and as a bare header. See `corepy.testing.outcomes`
for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.clients import CLIENTS
from corepy.testing.crossing import Outcome
from corepy.testing.outcomes import CONFIGS, Row, check

AGAIN = "udp+ udp"
OF_STREAM = "tcp+ tcp"
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))

WITHOUT_EDNS = "an error may mean EDNS (RFC 6891 section 7): asked once more without; then it holds"
BARE = (
    "RFC 5452 section 9.1: a header proves no question, so over UDP it is asked again, without EDNS, and"
    " then over a stream, where nobody forges; there it holds"
)


def refused(rcode, *, kept="", why=WITHOUT_EDNS, **parts):
    return Row(why, Outcome(rcode, **parts), AGAIN, None, OF_STREAM, kept=kept)


def bare(outcome, kept=""):
    return Row(BARE, outcome, "udp+ udp tcp", None, OF_STREAM, kept=kept)


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
        AGAIN,
        None,
        OF_STREAM,
        kept="success 60",
        after_good=dict.fromkeys(CLIENTS, Outcome("SERVFAIL")),
    ),
    "yxdomain": Row("RFC 2136 section 2.2: no error that EDNS could cause", Outcome("YXDOMAIN")),
    "notauth": Row("RFC 2136 section 2.2: no error that EDNS could cause", Outcome("NOTAUTH")),
    "bare-formerr": bare(Outcome("FORMERR")),
    "bare-servfail": bare(Outcome("SERVFAIL"), kept="failure 5"),
    "bare-notimp": bare(Outcome("NOTIMP"), kept="failure 5"),
    "bare-refused": bare(Outcome("REFUSED")),
    "bare-noerror": bare(UNREACHABLE, kept="failure 1"),
    "bare-nxdomain": bare(UNREACHABLE, kept="failure 1"),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("refusals")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
