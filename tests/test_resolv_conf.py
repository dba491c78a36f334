"""Files in the format of resolv.conf(5), as glibc 2.36 reads them, and where the reader differs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text, lower, to_text
from corepy.plugin.resolv_conf import read_lines, read_search_list

MANY = [f"d{number}.{'x' * 50}.example." for number in range(20)]


@pytest.mark.parametrize(
    ("content", "domains"),
    [
        (b"", []),
        (b"nameserver 192.0.2.1\noptions ndots:5\n", []),
        (b"search a.example b.example\n", ["a.example.", "b.example."]),
        (b"search\ta.example\t \tb.example", ["a.example.", "b.example."]),
        # the last line counts, but not one without a word
        (b"search a.example\nsearch b.example\n", ["b.example."]),
        (b"search a.example\nsearch\ndomain \n", ["a.example."]),
        (b"search a.example\ndomain b.example c.example\n", ["b.example."]),
        (b"domain b.example\nsearch a.example c.example", ["a.example.", "c.example."]),
        # glibc 2.25 takes six domains with 256 characters
        (f"search {' '.join(MANY)}\n".encode(), MANY),
        (b"search .\n", ["."]),
        (b"search . a.example .\n", [".", "a.example."]),
        (b"search A.Example. a.example localdomain\n", ["a.example.", "localdomain."]),
        (b"#search a.example\n;search b.example\n# search c.example\n", []),
        (b"search a.example # x\n", ["a.example.", "#.", "x."]),
        (b"search a.example ;x\n", ["a.example.", "\\;x."]),
        (b"SEARCH a.example\nsearchlist a.example\nsearch.a.example\n", []),
        (b"options search a.example\n", []),
        # glibc ignores the first of these lines, and has a carriage return in the second domain
        (b" search a.example\nnameserver 192.0.2.1\n", ["a.example."]),
        (b"search a.example\r\nnameserver 192.0.2.1\r\n", ["a.example."]),
        (b"\xef\xbb\xbfsearch a.example\n", ["a.example."]),
        (b"search \xff\xfe.example\n", ["\\255\\254.example."]),
    ],
)
def test_search_domains(content, domains):
    found = read_search_list(content)
    assert ([to_text(it) for it in found.domains], found.problems) == (domains, [])


def test_domains_that_are_left_out():
    content = f"search a.example\nsearch a..b b.example {'x' * 64} .c {'y.' * 150}\n".encode()
    found = read_search_list(content)
    assert found.domains == (from_text("b.example."),)
    reasons = ("empty label", "label longer than 63 bytes", "empty label", "name longer than 255")
    for problem, reason in zip(found.problems, reasons, strict=True):
        assert problem.startswith(f"line 2: {reason}")
        assert problem.endswith("; this domain is skipped")
        assert len(problem) < 200


def test_lines():
    content = b"\nnameserver 192.0.2.1 # x\r\n \t\n;comment\nlast"
    assert list(read_lines(content)) == [
        (2, ["nameserver", "192.0.2.1", "#", "x"]), (4, [";comment"]), (5, ["last"])
    ]  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80), st.sampled_from([b"", b"search ", b"domain "]))
def test_any_content(content, keyword):
    found = read_search_list(keyword + content)
    assert len(set(found.domains)) == len(found.domains)
    assert all(lower(from_text(to_text(it))) == it for it in found.domains)
