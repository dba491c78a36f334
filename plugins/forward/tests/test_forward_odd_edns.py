"""The table of odd EDNS: upstreams that drop it, refuse it, or make it wrong. See
`corepy.testing.outcomes` for how to read it.
"""

import pytest

from corepy.testing.behaviours import ADDRESS, group
from corepy.testing.behaviours.edns import PRIVATE
from corepy.testing.client_kinds import CLIENTS
from corepy.testing.crossing import Outcome
from corepy.testing.outcomes import CONFIGS, NEED_EDNS, Row, check, relayed
from corepy.testing.wire_message import SUBNET

GOOD = Outcome(answer=(ADDRESS,))
UNREACHABLE = Outcome("SERVFAIL", flags="", ede=(22,))
WITH_OPTIONS = ("client subnet", "unknown option")
NETWORK = Outcome("SERVFAIL", flags="", ede=(23,))

LOST = "RFC 6891 section 6.2.2: what drops EDNS is asked without, within a second"
REFUSED = "RFC 6891 section 7: an error that EDNS may have caused: asked without, at once"
MALFORMED = "malformed (RFC 6891 section 6.1): asked over TCP, then without EDNS"
OF_ONE_HOP = "RFC 7873, 7828, 7830, 5001: cookie, keepalive, padding and NSID are of one hop"


def refused(**after_good):
    """FORMERR, NOTIMP and BADVERS may mean the cookie, so that is left out first."""
    return without(REFUSED, "udp+ udp+ udp", **after_good)


def without(why, asked="udp+ udp", stream_asked="tcp+ tcp", **after_good):
    return Row(why, GOOD, asked, None, stream_asked, kept="success 60", **after_good)


def believed(rcode, vague=True):
    """An upstream that took EDNS before is believed; a vague rcode may mean a client's own options,
    which are not taken away from it (CoreDNS relays it, too).
    """
    row = without(REFUSED, after_good=dict.fromkeys(CLIENTS, Outcome(rcode)))
    if vague:
        row.clients = dict.fromkeys(WITH_OPTIONS, Outcome(rcode))
        row.asked_by = dict.fromkeys(WITH_OPTIONS, ("udp+", "tcp+"))
    return row


TABLE = {
    "drops-edns": without(
        LOST, "~udp+ udp", "~tcp+ tcp", after_good=dict.fromkeys(NEED_EDNS, UNREACHABLE)
    ),
    "echoes-edns-queries": without(
        LOST, "~udp+ udp", after_good=dict.fromkeys(NEED_EDNS, NETWORK)
    ),
    "formerr-to-edns": refused(),
    "notimp-to-edns": refused(),
    "servfail-to-edns": believed("SERVFAIL"),
    "refuses-edns": believed("REFUSED"),
    "formerr-with-opt-to-edns": refused(
        after_good=dict.fromkeys(CLIENTS, Outcome("FORMERR"))
    ),
    "bare-formerr-to-edns": refused(),
    "badvers-to-edns": refused(),
    "opt-twice": without(
        MALFORMED, "~udp+ tcp+ udp", after_good=dict.fromkeys(NEED_EDNS, NETWORK)
    ),
    "opt-version-1": without(
        MALFORMED, "~udp+ tcp+ udp", after_good=dict.fromkeys(NEED_EDNS, NETWORK)
    ),
    "option-cut-off": without(
        MALFORMED, "~udp+ tcp+ udp", after_good=dict.fromkeys(NEED_EDNS, NETWORK)
    ),
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
    "extended-error": Row(
        "RFC 8914 section 3: a forwarder passes extended errors on; the upstream has sent OPT, so it"
        " means what it says",
        Outcome("SERVFAIL", ede=(6,)),
        kept="failure 5",
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
        GOOD, "udp+ udp+", stream_asked="tcp+", kept="success 60",
    ),
    "forged-without-the-cookie": Row(
        "RFC 7873 section 5.3: a reply without our cookie is not believed, but asked for over TCP",
        GOOD, "udp+ udp+ tcp+", stream_asked="tcp+", kept="success 60",
    ),
    "refuses-options": Row(
        "RFC 7873 section 5.3 and 6891 section 7: asked without the cookie, then without EDNS",
        GOOD, "udp+ udp+", stream_asked="tcp+", kept="success 60",
        after_good={name: Outcome("FORMERR") for name, kind in CLIENTS.items() if not kind.tcp},
        asked_by=dict.fromkeys(WITH_OPTIONS, ("udp+ udp+ udp", "tcp+ tcp")),
    ),
}  # fmt: skip


def test_the_table_is_complete():
    assert set(TABLE) == group("edns")


@pytest.mark.parametrize("config", CONFIGS)
def test_outcomes(config, tmp_path):
    check(TABLE, config, tmp_path)
