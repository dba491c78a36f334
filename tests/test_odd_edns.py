"""The table of odd EDNS: upstreams that drop it, refuse it, or make it wrong. See
`corepy.testing.outcomes` for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS
from corepy.testing.behaviours.edns import PRIVATE
from corepy.testing.clients import CLIENTS
from corepy.testing.crossing import Outcome
from corepy.testing.message import SUBNET
from corepy.testing.outcomes import CONFIGS, Row, check, relayed

GOOD = Outcome(answer=(ADDRESS,))
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))
NETWORK = Outcome("SERVFAIL", flags="", ede=(23,))
NEED_EDNS = ("DO", "client subnet", "unknown option")
"""Clients that an upstream which took EDNS before is not asked for without."""

LOST = "RFC 6891 section 6.2.2: what drops EDNS is asked without, within a second"
REFUSED = "RFC 6891 section 7: an error that EDNS may have caused: asked without, at once"
MALFORMED = "malformed (RFC 6891 section 6.1): asked over TCP, then without EDNS"
OF_ONE_HOP = "RFC 7873, 7828, 7830, 5001: cookie, keepalive, padding and NSID are of one hop"


def without(why, asked="udp+ udp", stream_asked="tcp+ tcp", **after_good):
    return Row(why, GOOD, asked, None, stream_asked, kept="success 60", **after_good)


def believed(rcode):
    """An upstream that took EDNS before is believed."""
    return without(REFUSED, after_good=dict.fromkeys(CLIENTS, Outcome(rcode)))


def malformed():
    """The upstream does send OPT, so clients that need EDNS are not answered without it."""
    row = without(MALFORMED, "~udp+ tcp+ udp")
    row.clients = dict.fromkeys(NEED_EDNS, NETWORK)
    row.edns_asked = "~udp+ tcp+", "~tcp+"
    row.kept_by = {"DO": "failure 1"}
    return row


TABLE = {
    "drops-edns": without(
        LOST, "~udp+ udp", "~tcp+ tcp", after_good=dict.fromkeys(NEED_EDNS, UNREACHABLE)
    ),
    "echoes-edns-queries": without(
        LOST, "~udp+ udp", after_good=dict.fromkeys(NEED_EDNS, NETWORK)
    ),
    "formerr-to-edns": without(REFUSED),
    "notimp-to-edns": without(REFUSED),
    "servfail-to-edns": believed("SERVFAIL"),
    "refuses-edns": believed("REFUSED"),
    "formerr-with-opt-to-edns": believed("FORMERR"),
    "bare-formerr-to-edns": without(REFUSED),
    "badvers-to-edns": without(REFUSED),
    "opt-twice": malformed(),
    "opt-version-1": malformed(),
    "option-cut-off": malformed(),
    "ignores-edns": relayed(
        "RFC 6891 section 7: a reply without OPT is an answer all the same",
        ADDRESS, shared=False, kept="success 60",
    ),
    "opt-unasked": relayed(
        "the OPT of a reply is for us: the client gets its own, or none", ADDRESS, kept="success 60"
    ),
    "opt-before-glue": relayed(
        "RFC 6891 section 6.1.1: OPT stands anywhere in the additional section",
        ADDRESS, additional=("ns.example. 60 A 192.0.2.53",), kept="success 60",
    ),
    "options-of-the-hop": relayed(OF_ONE_HOP, ADDRESS, kept="success 60"),
    "private-option": Row(
        "an option goes to those who sent it themselves",
        GOOD,
        clients={"unknown option": Outcome(answer=(ADDRESS,), options=((PRIVATE, b"unasked"),))},
        shared=True,
        kept="success 60",
    ),
    "answers-by-subnet": Row(
        "RFC 7871 section 7.3: the answer to a subnet is for those who sent it",
        GOOD,
        clients={
            "client subnet": Outcome(
                answer=("@ 60 A 203.0.113.9",), options=((SUBNET, bytes.fromhex("00011818c63364")),)
            )
        },
        kept="success 60",
    ),
    "answers-by-option": Row(
        "the answer to an unknown option is for the one who sent it",
        GOOD,
        clients={"unknown option": Outcome(answer=("@ 60 A 203.0.113.10",))},
        kept="success 60",
    ),
    "with-cookies": relayed(OF_ONE_HOP, ADDRESS, shared=False, kept="success 60"),
    "wants-cookies": Row(
        "RFC 7873 section 5.3: BADCOOKIE is asked again with the cookie that came with it",
        GOOD, "~udp+", stream_asked="~tcp+", kept="success 60",
    ),
    "another-clients-cookie": Row(
        "RFC 7873 section 5.3: a reply with another's cookie is dropped", GOOD, kept="success 60"
    ),
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
