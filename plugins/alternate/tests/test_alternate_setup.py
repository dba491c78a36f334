"""The lines of *alternate*, with the cases of the original (setup_test.go)."""

import pytest

from corepy.dns.constants import NXDOMAIN, REFUSED, SERVFAIL
from corepy.loading.order_table import positions
from corepy.plugin import CorefileError
from corepy.testing import refusal, set_up
from corepy_alternate.handler import Alternate

TARGET = "192.168.1.1:53"


def rules(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Alternate)
    targets = [
        [it.address for it in embedded.next.static_targets()] for embedded in handler.embedded
    ]
    return {rcode: targets[index] for rcode, index in handler._rules.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"alternate REFUSED . {TARGET}", {REFUSED: [TARGET]}),
        (f"alternate SERVFAIL . {TARGET}", {SERVFAIL: [TARGET]}),
        (f"alternate NXDOMAIN . {TARGET}", {NXDOMAIN: [TARGET]}),
        (f"alternate original NXDOMAIN . {TARGET}", {NXDOMAIN: [TARGET]}),
        (f"alternate SERVFAIL,REFUSED . {TARGET}", {SERVFAIL: [TARGET], REFUSED: [TARGET]}),
        (f"alternate original SERVFAIL,REFUSED . {TARGET}", {2: [TARGET], 5: [TARGET]}),
        (f"alternate nxdomain,nxdomain . {TARGET}", {NXDOMAIN: [TARGET]}),
        (f"alternate NOERROR . {TARGET}", {0: [TARGET]}),
        (f"alternate NOTIMP . {TARGET} {{\n}}", {4: [TARGET]}),
        ("alternate REFUSED . 1.1.1.1 dns://2.2.2.2:5300", {5: ["1.1.1.1:53", "2.2.2.2:5300"]}),
        (
            "alternate REFUSED . [2001:db8::1]:54 2001:db8::2",
            {5: ["[2001:db8::1]:54", "[2001:db8::2]:53"]},
        ),
        (
            "alternate NXDOMAIN . 192.168.1.1:53\n"
            "alternate original SERVFAIL,REFUSED . 192.168.100.1:53",
            {3: [TARGET], 2: ["192.168.100.1:53"], 5: ["192.168.100.1:53"]},
        ),
    ],
)
def test_lines(text, expected):
    assert rules(text) == expected


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("alternate REFUSE . 192.168.1.1:53", "'REFUSE' is not a valid rcode", "REFUSE"),
        ("alternate SRVFAIL . 192.168.1.1:53", "is not a valid rcode", "SRVFAIL"),
        ("alternate NODOMAIN . 192.168.1.1:53", "is not a valid rcode", "NODOMAIN"),
        ("alternate original NODOMAIN . 192.168.1.1:53", "is not a valid rcode", "NODOMAIN"),
        ("alternate SERVFAIL, REFUSED . 192.168.1.1:53", "'' is not a valid rcode", "SERVFAIL,"),
        (
            "alternate REFUSED . 192.168.1.1:53 {\nmax_fails 5\nforce_tcp\n}",
            "additional parameters not allowed",
            "max_fails",
        ),
        ("alternate REFUSED . tls://192.168.1.1:443", "only dns transport allowed", None),
        ("alternate REFUSED . abc", "not an IP address or file: 'abc'", "abc"),
        (
            "alternate REFUSED . 192.168.1.1:53\nalternate REFUSED . 192.168.1.2:53",
            "rcode REFUSED is specified more than once",
            "REFUSED",
        ),
        (
            "alternate REFUSED . 192.168.1.1:53\nalternate original REFUSED . 192.168.1.2:53",
            "specified more than once",
            "REFUSED",
        ),
        ("alternate REFUSED . 255.255.255.255", "no valid upstream addresses found", None),
        ("alternate REFUSED .", "wrong argument count", None),
        ("alternate original", "wrong argument count", None),
        ("alternate", "wrong argument count", None),
    ],
)
def test_mistakes(text, message, at):
    found = refusal(text)
    assert message in found.message
    assert found.token is not None
    assert at in (None, found.token.text)


def test_mistakes_of_all_lines_are_reported():
    with pytest.raises(CorefileError) as caught:
        set_up("alternate BAD . 192.0.2.1\nalternate REFUSED . abc")
    assert [it.token.line for it in caught.value.diagnostics] == [2, 3]


def test_an_upstream_that_is_this_server():
    found = refusal("alternate SERVFAIL . 127.0.0.1", hosts=("127.0.0.1",))
    assert (found.message, found.token.text, found.hint) == (
        "upstream 127.0.0.1:53 is an address that this server listens on",
        "127.0.0.1",
        "queries would loop",
    )


def test_rcodes_that_are_separated_with_a_space():
    """A Corefile in the field: the second rcode becomes the zone, and the zone an empty file."""
    text = "alternate SERVFAIL REFUSED . dns://127.0.0.1:1053"
    assert rules(text) == {2: ["127.0.0.1:1053"]}
    first, second = set_up(text).warnings
    assert (first.message, first.hint) == (
        "REFUSED is taken as the zone, which has no effect",
        "separate rcodes with commas: SERVFAIL,REFUSED",
    )
    assert second.message == "'.' is a folder and has no name servers"


def test_a_file_of_upstreams(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    assert rules(f"alternate SERVFAIL . {file}") == {2: ["192.0.2.1:53", "192.0.2.2:53"]}
    assert file in set_up(f"alternate SERVFAIL . {file}").files


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("alternate REFUSED example.org 192.0.2.1", "example.org is taken as the zone"),
        ("alternate original REFUSED . 192.0.2.1\nrewrite name a. b.", "as rewrite has changed it"),
        ("alternate REFUSED . 192.0.2.1\nrewrite name a. b.", None),
    ],
)
def test_warnings(text, warning):
    found = [it.message for it in set_up(text).warnings]
    assert [warning in it for it in found] == ([True] if warning else [])


def test_the_position_in_the_chain():
    """coredns/alternate#60, coredns/alternate#20: below *forward*, it is never asked."""
    order = [it.directive for it in positions([])[0]]
    places = [order.index(it) for it in ("cache", "alternate", "fanout", "forward")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("word", "hint"), [("nxdomian", "did you mean 'NXDOMAIN'?"), ("?", "separate rcodes")]
)
def test_an_unknown_rcode(word, hint):
    assert hint in refusal(f"alternate {word} . 192.0.2.1").hint
