"""Lines of block lists: the forms that published lists have, and mistakes in them."""

import codecs
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text, to_text
from corepy.testing import helper_module
from corepy_blocklist.list_lines import LONGEST_LINE, Unsupported, read_line, read_lines
from corepy_blocklist.names import Unusable
from corepy_blocklist.rule import BELOW, NAME, Action
from corepy_blocklist.table import Table

BOTH = NAME | BELOW
LABEL = "a" * 63
table_of = helper_module(__file__, "tables").table_of


@pytest.mark.parametrize(
    ("line", "scope", "names"),
    [
        ("ads.example", NAME, ["ads.example."]),
        ("ADS.Example.", NAME, ["ads.example."]),
        ("ads.example # a comment", NAME, ["ads.example."]),
        ("ads.example\t#comment", NAME, ["ads.example."]),
        ("0.0.0.0 ads.example", NAME, ["ads.example."]),
        ("0 ads.example", NAME, ["ads.example."]),
        ("127.0.0.1\tads.example", NAME, ["ads.example."]),
        (":: ads.example", NAME, ["ads.example."]),
        ("::1 ads.example", NAME, ["ads.example."]),
        ("0.0.0.0 a.example b.example#c.example", NAME, ["a.example.", "b.example."]),
        ("0.0.0.0 under_score.example", NAME, ["under_score.example."]),
        ("0.0.0.0 -dash-.example", NAME, ["-dash-.example."]),
        ("bücher.example", NAME, ["xn--bcher-kva.example."]),
        ("BÜCHER.example", NAME, ["xn--bcher-kva.example."]),
        ("xn--bcher-kva.example", NAME, ["xn--bcher-kva.example."]),
        ("||bücher.example^", BOTH, ["xn--bcher-kva.example."]),
        ("zip", NAME, ["zip."]),
        ("*.ads.example", BOTH, ["ads.example."]),
        (".ads.example", BOTH, ["ads.example."]),
        ("||ads.example^", BOTH, ["ads.example."]),
        ("||ads.example^|", BOTH, ["ads.example."]),
        ("||ads.example.^", BOTH, ["ads.example."]),
        ("||.tk^", BOTH, ["tk."]),
        ("||*.tk^", BELOW, ["tk."]),
        ("||ads.example^$important", BOTH, ["ads.example."]),
        ("||ads.example^$third-party,all", BOTH, ["ads.example."]),
        ("|ads.example^", NAME, ["ads.example."]),
        ("address=/ads.example/", BOTH, ["ads.example."]),
        ("address=/ads.example/0.0.0.0", BOTH, ["ads.example."]),
        ("address=/ads.example/::", BOTH, ["ads.example."]),
        ("address=/ads.example/#", BOTH, ["ads.example."]),
        ("address=/a.example/b.example/127.0.0.1", BOTH, ["a.example.", "b.example."]),
        ("server=/ads.example/", BOTH, ["ads.example."]),
        ("local=/ads.example/", BOTH, ["ads.example."]),
        (f"{LABEL}.example", NAME, [f"{LABEL}.example."]),
    ],
)
def test_a_line_has_names(line, scope, names):
    found = read_line(line.encode())
    assert [to_text(it.name) for it in found] == names
    assert {it.scope for it in found} == {scope}
    assert not any(it.is_exception for it in found)


@pytest.mark.parametrize("line", ["@@||ads.example^", "@@|ads.example^$important"])
def test_an_exception_allows(line):
    assert [it.is_exception for it in read_line(line.encode())] == [True]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# comment",
        "! Title: a list",
        "; comment",
        "// comment",
        "#0.0.0.0 ads.example",
        "127.0.0.1 localhost",
        "::1 ip6-localhost ip6-loopback",
        "ff02::1 ip6-allnodes",
        "255.255.255.255 broadcasthost",
        "fe80::1%lo0 localhost",
        "0.0.0.0 0.0.0.0",
        "0.0.0.0 localhost",
        "localhost",
    ],
)
def test_a_line_has_no_name(line):
    assert read_line(line.encode()) == ()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("example.org##.banner", "cosmetic rule"),
        ("##.banner", "cosmetic rule"),
        ("example.org#@#.banner", "cosmetic rule"),
        ("/ads[0-9]+/", "regular expression"),
        ("@@/ads[0-9]+/", "regular expression"),
        ("[Adblock Plus 2.0]", "header"),
        ("||ads.example/path^", "path"),
        ("||ads*.example^", "wildcard inside of a name"),
        ("ads*.example", "wildcard inside of a name"),
        ("||ads.example", "rule without ^"),
        ("ads.example^", "rule without ||"),
        ("-banner-$image", "rule without ||"),
        ("||ads.example^$dnstype=AAAA", "modifier dnstype"),
        ("||ads.example^$client=10.0.0.1", "modifier client"),
        ("||ads.example^$denyallow=a.example", "modifier denyallow"),
        ("||ads.example^$dnsrewrite=192.0.2.1", "modifier dnsrewrite"),
        ("||ads.example^$~third-party", "modifier ~third-party"),
        ("||ads.example:8080^", "address of a page"),
        ("|https://ads.example^", "path"),
        ("192.0.2.1 ads.example", "address of a host"),
        ("address=/ads.example/192.0.2.1", "address of a host"),
        ("server=/corp.example/192.0.2.1", "server of a zone"),
        ("server=192.0.2.1", "dnsmasq option server without names"),
    ],
)
def test_a_line_is_not_supported(line, kind):
    with pytest.raises(Unsupported) as raised:
        read_line(line.encode())
    assert str(raised.value) == kind


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("192.0.2.1", "no name follows the address '192.0.2.1'"),
        ("ads.example other.example", "'ads.example' is not an address, but names follow"),
        ("<html>", "'<html>' is not a name"),
        ("0.0.0.0 ads..example", "'ads..example' is not a name: empty label"),
        ("0.0.0.0 https://ads.example", "'https://ads.example' is not a name"),
        (f"{LABEL}a.example", "label longer than 63 bytes"),
        (".".join([LABEL] * 4), "longer than 255 bytes"),
        ("||192.0.2.1^", "'192.0.2.1' is an address or a number, not a name"),
        ("1234", "'1234' is an address or a number, not a name"),
        ("||^", "is not a name|path|wildcard"),
        (".", "is not a name"),
        ("*", "is not a name|wildcard"),
        ("a" * (LONGEST_LINE + 1), "longer than 64 KiB"),
    ],
    ids=lambda text: text[:24],
)
def test_a_line_is_malformed(line, problem):
    with pytest.raises((Unusable, Unsupported), match=problem.replace("||", "[|][|]")):
        read_line(line.encode())


def test_text_that_is_not_utf_8_is_malformed():
    with pytest.raises(Unusable, match="not text in UTF-8"):
        read_line(b"0.0.0.0 b\xfccher.example")


def test_lines_are_separated_as_on_any_system():
    content = codecs.BOM_UTF8 + b"a.example\r\n  b.example \n\n" + b"x" * 70_000 + b"\nc.example"
    lines = list(read_lines(content))
    assert (lines[:3], lines[4:]) == ([b"a.example", b"b.example", b""], [b"c.example"])
    assert len(lines[3]) == LONGEST_LINE + 1


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_line_raises_anything_else(line):
    with contextlib.suppress(Unusable, Unsupported):
        for name, scope, _ in read_line(line):
            assert from_text(to_text(name)) == name == name.lower()
            assert scope in (NAME, BELOW, BOTH)


LABELS = st.lists(st.sampled_from(["a", "bb", "c-c"]), min_size=1, max_size=4)
NAMES = st.builds(lambda mark, labels: mark + ".".join(labels), st.sampled_from(["", "*."]), LABELS)


@settings(deadline=None, max_examples=50)
@given(st.lists(NAMES, max_size=30), st.lists(NAMES, max_size=8), st.sampled_from([NAME, BOTH]))
def test_a_table_finds_the_names_of_its_lists(tmp_path_factory, blocked, allowed, scope):
    """A search that is as simple as possible agrees."""
    folder = tmp_path_factory.getbasetemp()
    entries: dict[tuple[bytes, int], int] = {}
    for line, text in enumerate(blocked, 1):
        (entry,) = read_line(f"{text}.example".encode(), scope)
        for bit in (NAME, BELOW):
            if entry.scope & bit:
                entries.setdefault((entry.name, bit), line)
    content = "".join(f"{text}.example\n" for text in blocked)
    table = table_of(folder, content or "#", scope=scope)
    for text in (*blocked, *allowed):
        name = from_text(f"{text.removeprefix('*.')}.example.")
        lines = [entries.get((name, NAME))]
        at = 0
        while name[at]:
            at += name[at] + 1
            lines.append(entries.get((name[at:], BELOW)))
        expected = next((line for line in lines if line is not None), None)
        rule = table.find(name)
        assert (rule and (rule.action, rule.line)) == (
            None if expected is None else (Action.LISTED, expected)
        )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is empty"),
        (" \r\n", "is empty"),
        ("ads.example\n\0\0\0\0", "contains NUL bytes"),
        ("<!DOCTYPE html>\n<html>\n<p>not found</p>\n", "is not a list of names: line 1:"),
        ('{"error": "rate limit"}\n', "is not a list of names: line 1:"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["empty", "white-space", "NUL", "HTML", "JSON", "missing"],
)
def test_a_broken_file_keeps_its_previous_rules(tmp_path, content, problem):
    before = table_of(tmp_path, "old.example\n@@||fine.example^", "second.example")
    after = table_of(tmp_path, content, "third.example", previous=before)
    assert problem in after.files[0]["problem"]
    assert (after.files[0]["is_kept"], after.files[0]["rules"]) == (True, 2)
    found = {
        name: (rule.action, rule.line, rule.source % 2)
        for name in ("old", "a.fine", "second", "third")
        if (rule := after.find(from_text(f"{name}.example.")))
    }
    assert found == {
        "old": (Action.LISTED, 1, 0),
        "a.fine": (Action.PASSTHRU, 2, 0),
        "third": (Action.LISTED, 1, 1),
    }
    assert table_of(tmp_path, content, "third.example").files[0]["rules"] == 0


def test_lines_without_effect_are_counted(tmp_path):
    table = table_of(
        tmp_path, "good.example\n##.ad\nb a d\nx##.ad\n/r/\nmore.example\nfine.example"
    )
    report = table.files[0]
    assert report["unsupported"] == {"cosmetic rule": [2, 2], "regular expression": [1, 5]}
    assert (report["unusable"], report["rules"]) == (1, 3)
    assert report["first_unusable"] == "line 3: 'b' is not an address, but names follow"


@pytest.mark.parametrize("size", [0, 10, 100])
def test_another_file_is_not_a_table(tmp_path, size):
    (path := tmp_path / "other").write_bytes(bytes(size))
    with path.open("rb") as file, pytest.raises(ValueError, match=r"table|empty file"):
        Table(file.fileno())
