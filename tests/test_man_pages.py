"""Manual pages: mandoc and groff have nothing to say about them, and a wheel brings them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import man_pages  # noqa: E402  # found by sys.path

PAGES = man_pages.pages()
EVERY_KIND = """\
# thing

## Name

*thing* - does *it*.

## Description

A `-flag` and **VALUE**, **not** a value, [here](https://example.org/a-b) or [there](there.md).
.not a request, 'nor this, a\\\\b ~ ^

* one

    ```txt
    .code 'quoted' \\back -dash
    ```

* two

1. first

![a picture](picture.png)

> quoted

| a | b |
| --- | --- |
| x | y |

| a | b | c |
| --- | --- | --- |
| x | `y` | z |

### Part
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    man_pages.write(folder)
    return folder


def text_of(path, *options):
    """What man(1) shows, and what it complains of."""
    environment = {**os.environ, "MANWIDTH": "79", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--warnings", *options, "--local-file", str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_there_is_a_page_for_everything():
    plugins = {f"corepy-{path.parent.name}.7" for path in ROOT.glob("plugins/*/README.md")}
    language = {"corefile.5"} if (ROOT / "docs/corefile.md").exists() else set()
    assert {page.file for page in PAGES} == {"corepy.1", *language, *plugins}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.file)
def test_page_is_sound(page, folder):
    path = folder / page.file
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True
    )
    assert (lint.returncode, lint.stdout) == (0, "")
    shown = text_of(path)
    assert shown.stderr == ""
    lines = shown.stdout.splitlines()
    assert lines[lines.index("NAME") + 1].startswith(f"       {page.name} - ")
    assert len(lines) > 20


def test_everything_that_markdown_has(tmp_path):
    source = tmp_path / "README.md"
    source.write_text(EVERY_KIND)
    page = man_pages.Page("corepy-thing", 7, source)
    path = tmp_path / page.file
    path.write_text(man_pages.render(page, "corepy 1", "2026-01-01"))
    shown = text_of(path)
    assert shown.stderr == ""
    words = " ".join(shown.stdout.split())
    assert "corepy-thing - does it DESCRIPTION A -flag and VALUE, not a value," in words
    assert "here <https://example.org/a-b> or there. .not a request, 'nor this, a\\b ~ ^" in words
    assert "• one .code 'quoted' \\back -dash • two 1. first quoted" in words
    assert "x y" in words
    assert [cell.strip() for cell in words.split("│")[-4:-1]] == ["x", "y", "z"]
    assert "Part" in words


def test_placeholders_are_set_apart(tmp_path):
    source = tmp_path / "README.md"
    source.write_text(EVERY_KIND)
    text = man_pages.render(man_pages.Page("corepy-thing", 7, source), "corepy 1", "2026-01-01")
    assert "\\fB\\-flag\\fR and \\fIVALUE\\fR, \\fBnot\\fR a value" in text


def test_what_cannot_be_shown_is_refused(tmp_path):
    source = tmp_path / "README.md"
    source.write_text("# a\n\n<b>html</b>\n")
    with pytest.raises(ValueError, match="no way to show html_"):
        man_pages.render(man_pages.Page("a", 7, source), "corepy 1", "2026-01-01")
