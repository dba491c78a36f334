"""Files that are no text in UTF-8: refused with one error that says what they are."""

import gzip
from pathlib import Path

import pytest

from corepy.corefile import CorefileError, format_text, load, parse

GOOD = ".:1053 {\n    whoami\n}\n"
TABLE = {
    "UTF-16 with a mark": (GOOD.encode("utf-16"), "the file is encoded in UTF-16, not in UTF-8"),
    "UTF-16LE": (GOOD.encode("utf-16-le"), "the file is encoded in UTF-16, not in UTF-8"),
    "UTF-16BE": (GOOD.encode("utf-16-be"), "the file is encoded in UTF-16, not in UTF-8"),
    "UTF-16BE with a mark": (
        ("\ufeff" + GOOD).encode("utf-16-be"),
        "the file is encoded in UTF-16, not in UTF-8",
    ),
    "UTF-32": (GOOD.encode("utf-32"), "the file is encoded in UTF-32, not in UTF-8"),
    "compressed": (gzip.compress(GOOD.encode(), mtime=0), "the file contains a NUL byte"),
    "zeros": (bytes(4096), "the file contains a NUL byte"),
    "cut by a crash": (GOOD.encode() + bytes(512), "the file contains a NUL byte"),
    "one NUL": (GOOD.replace("whoami", "who\0ami").encode(), "the file contains a NUL byte"),
}


@pytest.mark.parametrize("kind", TABLE)
def test_it_is_one_error_with_a_hint(tmp_path, monkeypatch, kind):
    content, message = TABLE[kind]
    monkeypatch.chdir(tmp_path)
    (path := Path("Corefile")).write_bytes(content)
    importing = Path("importing")
    importing.write_text(". {\n import Corefile\n}\n")
    for refused, prefix in (
        (lambda: load(path), "not a Corefile: "),
        (lambda: format_text(content, str(path)), "not a Corefile: "),
        (lambda: load(importing), "cannot import '"),
    ):
        with pytest.raises(CorefileError) as caught:
            refused()
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.message.startswith(prefix)
        assert message in diagnostic.message
        assert diagnostic.hint


@pytest.mark.parametrize("content", [GOOD.encode(), GOOD.encode("utf-8-sig"), b"", b"\xff {\n}\n"])
def test_others_are_read(tmp_path, content):
    (path := tmp_path / "Corefile").write_bytes(content)
    load(path)


@pytest.mark.parametrize(
    ("content", "location"),
    [
        (GOOD.encode("utf-16"), "Corefile:1:1: "),
        (b".\n{\n  \xc3\xa9 \0\n}", "Corefile:3:5: "),
        (b"\xef\xbb\xbf.\0 {\n}", "Corefile:1:2: "),
    ],
)
def test_it_has_a_place(content, location):
    with pytest.raises(CorefileError) as caught:
        parse(content)
    assert str(caught.value).startswith(f"{location}not a Corefile: ")
