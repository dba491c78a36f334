"""The headers that continue a client's trace: the examples of their specifications, and others."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns.identity import HTTPFacts
from corepy_trace.parent import Parent, parent_of

HIGH, TRACE, SPAN, ABOVE = (
    "80f198ee56343ba8",
    "64fe8b2a57d3eff7",
    "e457b5a2e4d86bd1",
    "05e3ac9a4f6e3b90",
)
LONG = f"{HIGH}{TRACE}"
IDS = int(LONG, 16), int(SPAN, 16)
W3C = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
W3C_IDS = int(W3C[0], 16), int(W3C[1], 16)
DENIED = Parent(0, is_sampled=False)


def parent(**headers):
    facts = ((name.replace("_", "-"), value) for name, value in headers.items())
    return parent_of(HTTPFacts("POST", "/dns-query", tuple(facts)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{LONG}-{SPAN}-1-{ABOVE}", Parent(*IDS, int(ABOVE, 16))),
        (f"{LONG}-{SPAN}-0-{ABOVE}", Parent(*IDS, int(ABOVE, 16), is_sampled=False)),
        (f"{LONG}-{SPAN}-d", Parent(*IDS)),
        (f"{TRACE}-{SPAN}", Parent(int(TRACE, 16), int(SPAN, 16))),
        ("0", DENIED),
        ("1", None),
        ("d", None),
        (f"{LONG}-{SPAN}-", None),
        (f"{LONG}-{SPAN}-2", None),
        (f"{LONG.upper()}-{SPAN}", None),
        (f"{'0' * 32}-{SPAN}", None),
        (f"{LONG}-{'0' * 16}", None),
        (f"{LONG}-{SPAN}-1-{ABOVE}-1", None),
        ("", None),
    ],
)
def test_b3_in_one_header(text, expected):
    assert parent(b3=text) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"traceid": LONG, "spanid": SPAN}, Parent(*IDS)),
        ({"traceid": LONG.upper(), "spanid": SPAN, "sampled": "1"}, Parent(*IDS)),
        (
            {"traceid": TRACE, "spanid": SPAN, "parentspanid": ABOVE},
            Parent(int(TRACE, 16), int(SPAN, 16), int(ABOVE, 16)),
        ),
        ({"traceid": LONG, "spanid": SPAN, "parentspanid": "x"}, Parent(*IDS)),
        ({"traceid": LONG, "spanid": SPAN, "sampled": "0"}, Parent(*IDS, is_sampled=False)),
        ({"sampled": "false"}, DENIED),
        ({"sampled": "1"}, None),
        ({"traceid": LONG}, None),
        ({"traceid": LONG[1:], "spanid": SPAN}, None),
        ({"traceid": LONG, "spanid": SPAN + "\n"}, None),
        ({"traceid": "0" * 16, "spanid": SPAN}, None),
    ],
)
def test_b3_in_several_headers(headers, expected):
    assert parent(**{f"x_b3_{name}": value for name, value in headers.items()}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{W3C[0]}-{W3C[1]}-01", Parent(*W3C_IDS)),
        (f"00-{W3C[0]}-{W3C[1]}-00", Parent(*W3C_IDS, is_sampled=False)),
        (f"00-{W3C[0]}-{W3C[1]}-03", Parent(*W3C_IDS)),
        (f"cc-{W3C[0]}-{W3C[1]}-01-what-the-future-brings", Parent(*W3C_IDS)),
        (f"cc-{W3C[0]}-{W3C[1]}-01", Parent(*W3C_IDS)),
        (f"00-{W3C[0]}-{W3C[1]}-01-more", None),
        (f"cc-{W3C[0]}-{W3C[1]}-01.more", None),
        (f"ff-{W3C[0]}-{W3C[1]}-01", None),
        (f"00-{W3C[0].upper()}-{W3C[1]}-01", None),
        (f"00-{'0' * 32}-{W3C[1]}-01", None),
        (f"00-{W3C[0]}-{'0' * 16}-01", None),
        ("00", None),
    ],
)
def test_trace_context(text, expected):
    assert parent(traceparent=text) == expected


def test_the_first_form_decides():
    both = {"b3": f"{LONG}-{SPAN}", "traceparent": f"00-{W3C[0]}-{W3C[1]}-01"}
    assert parent(**both) == Parent(*IDS)
    assert parent(traceparent=both["traceparent"], x_b3_traceid="bad") == Parent(*W3C_IDS)
    assert parent() is None


HEX = st.text(alphabet="0123456789abcdefdABCDEF-\n \u0660", max_size=60)
NAMES = ("b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "traceparent")
HEADERS = st.dictionaries(st.sampled_from(NAMES), HEX | st.sampled_from([LONG, SPAN, "0", "00-"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HEADERS)
def test_any_headers(headers):
    found = parent_of(HTTPFacts("GET", "/", tuple(headers.items())))
    if found is not None and found != DENIED:
        assert 0 < found.trace < 1 << 128
        assert 0 < found.span < 1 << 64
        assert 0 <= found.above < 1 << 64
