"""Master files: read with positions, written, and read again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.corefile import Diagnostic, render
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.presentation import Record, RecordError, read_record
from corepy.dns.presentation.table import FIELDS
from corepy.testing import helper_module
from corepy.zone import MasterFileError, ZoneBuilder, ZoneError, read_zone
from corepy.zone.generate import expand
from corepy.zone.master_file import DEEPEST, MasterFileReader, ReadFile
from corepy.zone.origin import guess_origin
from corepy.zone.writer import record_to_text, zone_to_text

texts = helper_module(__file__, "zone_texts")


def read(text, *, path="test.zone", origin=texts.ORIGIN):
    """The records of a text without a SOA record, and its problems as text."""
    records: list[Record] = []
    problems: list[Diagnostic] = []
    reader = MasterFileReader(
        ZoneBuilder(origin), problems.append, lambda record, *_: records.append(record)
    )
    reader.read_content(text if isinstance(text, bytes) else text.encode(), Path(path))
    return [texts.record_text(it.wire) for it in records], render(problems)


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("a 60 IN A 192.0.2.1", ["a 60 A 192.0.2.1"]),
        ("a IN 60 A 192.0.2.1", ["a 60 A 192.0.2.1"]),
        ("a 1h A 192.0.2.1\n  AAAA ::1", ["a 3600 A 192.0.2.1", "a 3600 AAAA ::1"]),
        ("$TTL 1d\n@ A 192.0.2.1", ["@ 86400 A 192.0.2.1"]),
        ("$TTL 60\na A 192.0.2.1\n$TTL 61\nb A 192.0.2.1", ["a 60 A 192.0.2.1", "b 61 A 192.0.2.1"]),
        # $TTL, not the last TTL (RFC 2308 section 4), and without it the last one (RFC 1035)
        ("$TTL 60\na 5 A 192.0.2.1\nb A 192.0.2.1", ["a 5 A 192.0.2.1", "b 60 A 192.0.2.1"]),
        ("a 5 A 192.0.2.1\nb A 192.0.2.1", ["a 5 A 192.0.2.1", "b 5 A 192.0.2.1"]),
        ("@ SOA a b 1 2 3 4 5\n@ NS a", ["@ 5 SOA a b 1 2 3 4 5", "@ 5 NS a"]),
        ("$ORIGIN sub\na 1 NS b", ["a.sub 1 NS b.sub"]),
        ("$ORIGIN sub\n$ORIGIN deep\n@ 1 NS b", ["deep.sub 1 NS b.deep.sub"]),
        ("$ORIGIN example.org.\na 1 NS b.", ["a 1 NS b."]),
        ("a 1 MX ( 10 ; comment\n  b )", ["a 1 MX 10 b"]),
        ('a 1 TXT "x y" "\\"" z', ['a 1 TXT "x y" "\\"" "z"']),
        ("a 1 TYPE65280 \\# 2 0102", ["a 1 TYPE65280 \\# 2 0102"]),
        ("a 1 A \\# 4 C0000201", ["a 1 A 192.0.2.1"]),
        ("\ufeffa 1 A 192.0.2.1\r\n\r\n", ["a 1 A 192.0.2.1"]),
        ("A\\046b 1 A 192.0.2.1", ["a\\.b 1 A 192.0.2.1"]),
        ("$GENERATE 1-3 h$ 5 A 10.0.0.$", [f"h{it} 5 A 10.0.0.{it}" for it in (1, 2, 3)]),
        # $GENERATE uses the $TTL in force, unlike in CoreDNS
        ("$TTL 60\n$GENERATE 2-6/2 $ A 10.0.0.$", [f"{it} 60 A 10.0.0.{it}" for it in (2, 4, 6)]),
        ("$TTL 1\n$GENERATE 9-10 h${0,3} CNAME h${-9,2,x}",
         ["h009 1 CNAME h00", "h010 1 CNAME h01"]),
        ("$TTL 1\n$GENERATE 0-0 a\\$${255,4,X} CNAME ${255,3,N}.x", ["a$00ff 1 CNAME F.F.x"]),
        ('$TTL 1\n$GENERATE 7-7 a TXT "$ x" y$', ['a 1 TXT "7 x" "y7"']),
    ],
)  # fmt: skip
def test_what_is_read(text, records):
    assert read(text) == (records, "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "$TTL 60\nwww A 192.0.2.300",
            "test.zone:2:7: A address is not an IPv4 address: '192.0.2.300'\n"
            "  2 | www A 192.0.2.300\n    |       ^~~~~~~~~~~",
        ),
        (
            "www 60 MX 10\n",
            "test.zone:1:13: MX mail exchange is missing\n  1 | www 60 MX 10\n    |             ^",
        ),
        (
            "$TTL 60\nwww A ( 192.0.2.1\n  surplus )",
            "test.zone:3:3: A has a surplus word: 'surplus'\n  3 |   surplus )\n    |   ^~~~~~~",
        ),
        (
            "www A 192.0.2.1",
            "test.zone:1:1: record has no TTL, and there is no $TTL before it\n"
            "  1 | www A 192.0.2.1\n    | ^~~",
        ),
        (
            "  A 192.0.2.1",
            "test.zone:1:3: record has no owner: the line begins with a blank\n"
            "  1 |   A 192.0.2.1\n    |   ^",
        ),
        (
            "www CH 60 TXT x",
            "test.zone:1:1: record has class CH; zones of class IN are served\n"
            "  1 | www CH 60 TXT x\n    | ^~~",
        ),
        (
            "www 2147483648 A 192.0.2.1",
            "test.zone:1:1: record has a TTL of more than 2147483647 seconds (RFC 2181 section 8)\n"
            "  1 | www 2147483648 A 192.0.2.1\n    | ^~~",
        ),
        (
            "$ORIGN x",
            "test.zone:1:1: unknown directive '$ORIGN'\n  1 | $ORIGN x\n    | ^~~~~~\n"
            "  hint: did you mean $ORIGIN?",
        ),
        (
            "$ORIGIN",
            "test.zone:1:8: argument of $ORIGIN is missing\n  1 | $ORIGIN\n    |        ^",
        ),
        (
            "$TTL 1 2",
            "test.zone:1:8: argument of $TTL is one too many\n  1 | $TTL 1 2\n    |        ^",
        ),
        (
            "$TTL x",
            "test.zone:1:6: $TTL is not a time from 0 to 2147483647 seconds, such as 3600 or 1h:"
            " 'x'\n  1 | $TTL x\n    |      ^",
        ),
        (
            "$ORIGIN a..b",
            "test.zone:1:9: origin is not a domain name: empty label in name 'a..b'\n"
            "  1 | $ORIGIN a..b\n    |         ^~~~",
        ),
        (
            "$INCLUDE nowhere/else",
            "test.zone:1:10: cannot read nowhere/else: No such file or directory\n"
            "  1 | $INCLUDE nowhere/else\n    |          ^~~~~~~~~~~~",
        ),
        (
            'www 60 TXT "open',
            "test.zone:1:12: the entry has a quote that is not closed\n"
            '  1 | www 60 TXT "open\n    |            ^~~~~',
        ),
        (
            "a 1 A 192.0.2.1\na 1 CNAME b",
            "test.zone:2:1: a.example.org. CNAME: a name with a CNAME record owns other data (A):"
            " RFC 1034 section 3.6.2\n  2 | a 1 CNAME b\n    | ^",
        ),
        (
            "a.example.net. 1 A 192.0.2.1",
            "test.zone:1:1: warning: a.example.net. is not in the zone example.org.\n"
            "  1 | a.example.net. 1 A 192.0.2.1\n    | ^~~~~~~~~~~~~~\n"
            "  hint: the record is left out",
        ),
        (
            "$TTL 1\n$GENERATE 1-3 h$ A 10.0.0.${0,3,z}",
            "test.zone:2:20: $GENERATE modifier is not ${OFFSET}, ${OFFSET,WIDTH} or"
            " ${OFFSET,WIDTH,BASE}: ${0,3,z}\n"
            "  2 | $GENERATE 1-3 h$ A 10.0.0.${0,3,z}\n    |                    ^~~~~~~~~~~~~~~",
        ),
        (
            "$GENERATE 3-1 h$ A 10.0.0.$",
            "test.zone:1:11: $GENERATE range is empty or too high: '3-1'\n"
            "  1 | $GENERATE 3-1 h$ A 10.0.0.$\n    |           ^~~",
        ),
        (
            "$TTL 1\n$GENERATE 255-256 h$ A 10.0.0.$",
            "test.zone:2:32: $GENERATE makes 'h256 A 10.0.0.256': A address is not an IPv4 address:"
            " '10.0.0.256'\n  2 | $GENERATE 255-256 h$ A 10.0.0.$\n"
            "    |                                ^",
        ),
    ],
)
def test_problems_have_positions(text, problem):
    assert read(text)[1] == problem


def test_all_errors_are_reported_at_once(tmp_path):
    (path := tmp_path / "zone").write_text("$TTL 1\na A x\nb A y\n@ SOA a b 1 2 3 4 5\n")
    with pytest.raises(MasterFileError) as error:
        read_zone(path, texts.ORIGIN)
    assert [it.token.line for it in error.value.diagnostics] == [2, 3]
    assert str(error.value).endswith("'x' (and 1 more errors)")


def test_included_files(tmp_path):
    """Origin and owner are those of the including file after it (RFC 1035 section 5.1)."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/one").write_text(
        "a A 192.0.2.1\n$ORIGIN deep\nb A 192.0.2.2\n$INCLUDE two\n"
    )
    (tmp_path / "parts/two").write_text("c A 192.0.2.3\n")
    (path := tmp_path / "zone").write_text(
        "$TTL 1\n@ SOA a b 1 2 3 4 5\n$INCLUDE parts/one sub\n  TXT t\nd A 192.0.2.4\n"
    )
    files: list[ReadFile] = []
    zone, warnings = read_zone(path, texts.ORIGIN, files)
    owners = ["@", "d", "a.sub", "b.deep.sub", "c.deep.sub"]
    assert [texts.relative(name) for name in zone.names] == owners
    assert zone.rrset(texts.ORIGIN, c.TYPE_TXT)
    assert not warnings
    parts = [tmp_path / "parts/one", tmp_path / "parts/two"]
    assert [it.path for it in files] == [path, *parts]
    (tmp_path / "parts/two").write_text("c A x\n")
    with pytest.raises(MasterFileError) as error:
        read_zone(path, texts.ORIGIN)
    shown = render(error.value.diagnostics)
    assert shown == (
        f"{tmp_path}/parts/two:1:5: A address is not an IPv4 address: 'x'\n"
        f"  1 | c A x\n    |     ^\n"
        f"  imported at {tmp_path}/parts/one:4:10\n  imported at {path}:3:10"
    )


@pytest.mark.parametrize(
    ("limit", "text", "problem"),
    [
        ("MOST_FILES", "$INCLUDE more\n$INCLUDE more\n", "the zone has more than 3 files"),
        ("LARGEST", "$INCLUDE more\n", "the files of the zone are larger than 0 MiB"),
        ("MOST_ERRORS", "a 1 A x\n" * 9, "the rest is not read after 3 errors"),
        ("MOST_ERRORS", "$INCLUDE bad\n" * 9, "the rest is not read after 3 errors"),
        ("MOST_GENERATED", "$GENERATE 1-2 a$ 1 A 192.0.2.$\n" * 2, "makes more than 3 records"),
    ],
)
def test_the_limits_of_a_zone(tmp_path, monkeypatch, limit, text, problem):
    monkeypatch.setattr(f"corepy.zone.master_file.{limit}", 3 if limit != "LARGEST" else 40)
    (tmp_path / "more").write_text("; a comment of 30 characters\n")
    (tmp_path / "bad").write_text("a 1 A x\n")
    path = tmp_path / "zone"
    path.write_text(text * 2)
    problems: list[Diagnostic] = []
    MasterFileReader(ZoneBuilder(texts.ORIGIN), problems.append).read(path)
    assert problem in problems[-1].message
    assert problems[-1].token is not None
    assert len(problems) == (4 if limit == "MOST_ERRORS" else 1)


@pytest.mark.parametrize(
    "entry",
    [
        "{}",
        "a 1 TXT {}",
        'a 1 TXT "{}"',
        'a 1 TXT "{}',
        "a 1 TXT ({})",
        "a 1 TXT ({}",
        ";{}",
        "({})",
    ],
)
def test_the_length_of_an_entry_is_limited(monkeypatch, entry):
    """A comment and the end of the file count, too."""
    monkeypatch.setattr("corepy.dns.presentation.words.LONGEST_ENTRY", 40)
    reason = "has a quote that is not closed" if '"' in entry else "is longer than 40 characters"
    for filler in ("x" * 99, "x " * 50, "x\n" * 50 if "(" in entry else "x" * 40):
        _, problems = read("\n" + entry.format(filler) + "\nb 1 A 192.0.2.1")
        assert f": the entry {reason}" in problems
        assert problems.startswith("test.zone:2:")
    records, problems = read("a 1 TXT 78901234567890123456789\n" * 2 + f"a 1 TXT {'7' * 32}")
    assert (records[-1], problems) == (f'a 1 TXT "{"7" * 32}"', "")


def test_a_long_word_is_cut_off_in_a_diagnostic():
    problems: list[Diagnostic] = []
    reader = MasterFileReader(ZoneBuilder(texts.ORIGIN), problems.append)
    reader.read_content(b"x" * 5000, Path("test.zone"))
    assert problems[0].token is not None
    assert problems[0].token.text == "x" * 1000


def test_warnings_are_limited(monkeypatch):
    monkeypatch.setattr("corepy.zone.master_file.MOST_WARNINGS", 2)
    records, problems = read("a. 1 A 192.0.2.1\n" * 5 + "b 1 A 192.0.2.1")
    assert records == ["b 1 A 192.0.2.1"]
    assert problems.count("is not in the zone") == 2


def test_a_file_that_includes_itself(tmp_path):
    (path := tmp_path / "zone").write_text("$INCLUDE zone\n")
    with pytest.raises(MasterFileError, match=f"nested more than {DEEPEST} times"):
        read_zone(path, texts.ORIGIN)


@pytest.mark.parametrize(
    "words",
    ["$GENERATE 1-2 a A", "$GENERATE x a A b", "$GENERATE 0-70000 a A b", "$GENERATE 1-2/0 a A b",
     "$GENERATE 1-2 a A ${-3}", "$GENERATE 1-2 a A ${1,999}", "$GENERATE 1-99999999999 a A b"],
)  # fmt: skip
def test_malformed_generate(words):
    with pytest.raises(RecordError):
        list(expand(words.split()))


@pytest.mark.parametrize(
    ("name", "text", "origin"),
    [
        ("x", "Example.NET. 1 SOA a b 1 2 3 4 5", "example.net."),
        ("x", "$ORIGIN example.net.\n@ 1 IN SOA a b 1 2 3 4 5", "example.net."),
        ("db.example.net", "@ 1 IN SOA a b 1 2 3 4 5", "example.net."),
        ("example.net.zone", "example 1 IN SOA a b 1 2 3 4 5", "example.net."),
        ("example.net", "a A 192.0.2.1", "example.net."),
        ("example.net.db", 'a TXT "', "example.net."),
    ],
)
def test_the_origin_is_guessed(name, text, origin):
    assert guess_origin(Path(name), text.encode()) == from_text(origin)


def test_an_origin_that_cannot_be_guessed():
    with pytest.raises(ZoneError, match="give it as an argument"):
        guess_origin(Path("a..b"), b"")


@pytest.mark.parametrize("kind", ["", ".nsec", ".nsec3"])
def test_a_written_zone_is_the_same_zone(kind):
    zone = read_zone(Path(__file__).parent / f"zones/lookup{kind}.zone", texts.ORIGIN).zone
    text = "".join(zone_to_text(zone))
    again = texts.zone_from(text, head="")
    assert list(again) == list(zone)
    assert again.hashed_nodes == zone.hashed_nodes


records = st.builds(
    Record,
    st.lists(st.binary(min_size=1, max_size=9), max_size=4).map(
        lambda labels: b"".join(bytes((len(it),)) + it for it in labels) + b"\0"
    ),
    st.integers(0, 2**31 - 1),
    st.just(c.CLASS_IN),
    st.sampled_from([*(it for it in FIELDS if not 128 <= it <= 255), 65280]),
    st.binary(max_size=60),
)


@given(records)
def test_a_written_record_is_the_same_record(record):
    """Whatever its bytes; only rdata that is malformed for its type cannot be read."""
    try:
        again = read_record(record_to_text(record), 0)
    except RecordError as error:
        assert "malformed" in str(error) or "rdata" in str(error)  # noqa: PT017 - its text matters
    else:
        assert again == record


words = st.sampled_from(
    ["$TTL", "$ORIGIN", "$INCLUDE", "$GENERATE", "1-9", "@", "a", "*", "a.b.", "60", "1h", "IN",
     "CH", "A", "AAAA", "MX", "TXT", "SOA", "RRSIG", "NSEC3", "10", "192.0.2.1", "::1", '"x"', '"',
     "(", ")", ";", "\\", "\\#", "$", "${0,3,d}", "${", "\\$", "TYPE1", "\n", "\n", "\n ", "\0"]
)  # fmt: skip


@given(st.lists(words, max_size=16).map(" ".join) | st.text(max_size=60) | st.binary(max_size=60))
def test_no_text_makes_the_reader_fail(text):
    read(text.encode("utf-8", "replace") if isinstance(text, str) else text)
