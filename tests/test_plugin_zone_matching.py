"""The longest zone of a list that contains a name, and the option `fallthrough`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import from_text, is_subdomain
from corepy.plugin import Fallthrough, ZoneMatcher
from corepy.testing import controller_for

MANY = [f"zone{number}.example." for number in range(20)]


@pytest.mark.parametrize(
    ("zones", "name", "zone"),
    [
        ([], "example.org.", None),
        (["."], "example.org.", "."),
        (["."], ".", "."),
        (["org."], "example.org.", "org."),
        (["org."], "org.", "org."),
        (["org."], "morg.", None),
        (["org.", "example.org."], "a.example.org.", "example.org."),
        (["example.org.", "org.", "."], "a.example.org.", "example.org."),
        (["example.org.", "org.", "."], "com.", "."),
        ([*MANY, "example."], "a.b.zone7.example.", "zone7.example."),
        ([*MANY, "example."], "a.zone77.example.", "example."),
        (MANY, "example.", None),
        ([*MANY, "."], "example.", "."),
        (["Org.", "org."], "org.", "Org."),
        (["a..b.", "org."], "example.org.", "org."),
        (["a..b."], "example.org.", None),
    ],
)
def test_the_longest_zone_is_found(zones, name, zone):
    assert ZoneMatcher(zones).find(from_text(name)) == zone


label = st.sampled_from(["a", "b", "ab", "\\000", "\\.", "x" * 63])
names = st.lists(label, max_size=3).map(lambda labels: "".join(f"{one}." for one in labels) or ".")


@given(st.lists(names, max_size=8), names)
def test_few_and_many_zones_match_alike(zones, name):
    wire = from_text(name)
    within = [zone for zone in zones if is_subdomain(wire, from_text(zone))]
    longest = max(within, key=lambda zone: len(from_text(zone)), default=None)
    assert ZoneMatcher(zones).find(wire) == longest
    assert ZoneMatcher([*zones, *MANY]).find(wire) == longest


@pytest.mark.parametrize(
    ("line", "zones"),
    [
        ("it", (".",)),
        ("it .", (".",)),
        ("it Example.ORG", ("example.org.",)),
        ("it example.org. example.net", ("example.org.", "example.net.")),
        ("it 10.0.0.0/15", ("0.10.in-addr.arpa.", "1.10.in-addr.arpa.")),
        ("it dns://example.org:53", ("example.org.",)),
        ("it a..b", ()),
    ],
)
def test_fallthrough_is_parsed_as_in_coredns(line, zones):
    controller = controller_for(line)
    controller.next()
    assert controller.fallthrough().zones == zones
    assert not controller.next()


def test_fallthrough_passes_names_in_its_zones():
    assert Fallthrough().zones == ()
    assert not Fallthrough().passes(from_text("example.org."))
    assert Fallthrough(["."]).passes(from_text("example.org."))
    assert Fallthrough(["example.org."]).passes(from_text("a.example.org."))
    assert not Fallthrough(["example.org."]).passes(from_text("example.net."))
