"""Generates manual pages from the documentation: corepy.1, corefile.5, corepy-<plugin>.7.

`python tools/man_pages.py FOLDER` writes them. Building a wheel includes them in it
(tools/hatch_build.py).
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import build_version
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markdown_it.token import Token

ROOT: Final = Path(__file__).parent.parent
PLACEHOLDER: Final = re.compile(r"[^a-z]*[A-Z][^a-z]*")
BACKSLASH: Final = "\\"
ESCAPES: Final = {BACKSLASH: "\\e", "~": "\\(ti", "^": "\\(ha"}
CODE_ESCAPES: Final = {**ESCAPES, "-": "\\-", "'": "\\(aq", "`": "\\(ga", '"': "\\(dq"}


class Page(NamedTuple):
    """A manual page and its Markdown source."""

    name: str
    section: int
    source: Path
    about: str = ""
    """The description in the NAME section, if the source has no such section."""

    @property
    def file(self) -> str:
        """The name of the file, such as corepy.1."""
        return f"{self.name}.{self.section}"


def pages() -> list[Page]:
    """Return all pages."""
    readmes = sorted(ROOT.glob("plugins/*/README.md"))
    found = [
        Page("corepy", 1, ROOT / "docs/command.md"),
        Page("corefile", 5, ROOT / "docs/corefile.md", "the configuration of corepy"),
        *(Page(f"corepy-{readme.parent.name}", 7, readme) for readme in readmes),
    ]
    return [page for page in found if page.source.exists()]


def write(folder: Path) -> list[tuple[Page, Path]]:
    """Write all pages into `folder` and return them with their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    version = f"corepy {build_version.version(ROOT)}"
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    date = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
    written = []
    for page in pages():
        path = folder / page.file
        path.write_text(render(page, version, f"{date:%Y-%m-%d}"))
        written.append((page, path))
    return written


def render(page: Page, version: str, date: str) -> str:
    """Return a page in roff's man macros."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.source.read_text())
    head = f".TH {page.name.upper()} {page.section} {date} {_quoted(version)}"
    # Run tbl(1) first; no justification, which looks bad in narrow columns.
    lines = ["'\\\" t", head, ".ad l"]
    if page.about:
        lines += [
            ".SH NAME",
            f"{_text(page.name, CODE_ESCAPES)} \\- {page.about}",
            ".SH DESCRIPTION",
        ]
    text = "\n".join([*lines, *Roff(page.name).blocks(tokens)])
    # A heading starts a paragraph itself; mandoc warns about a second one.
    return re.sub(r"^(\.S[HS] .*)\n\.PP\n", r"\1\n", text, flags=re.MULTILINE) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str, escapes: dict[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


class Roff:
    """Converts Markdown tokens into lines of roff."""

    def __init__(self, name: str) -> None:
        """`name` is the name of the page, with which the line in NAME must begin."""
        self._name = name
        self._in_name = False
        self._loose = True
        self._blocks: dict[str, Callable[[Sequence[Token]], Iterator[str]]] = {
            "heading_open": self._heading,
            "paragraph_open": self._paragraph,
            "bullet_list_open": self._list,
            "ordered_list_open": self._list,
            "blockquote_open": self._quote,
            "table_open": self._table,
        }

    def blocks(self, tokens: Sequence[Token]) -> Iterator[str]:
        """Yield the lines for a sequence of blocks."""
        at = 0
        while at < len(tokens):
            token = tokens[at]
            end = _end_of(tokens, at)
            if token.type in ("fence", "code_block"):
                yield from self._code(token.content)
            elif token.type in self._blocks:
                yield from self._blocks[token.type](tokens[at : end + 1])
            elif token.type != "hr":
                raise ValueError(f"{self._name}: no way to show {token.type}")
            at = end + 1

    def _heading(self, tokens: Sequence[Token]) -> Iterator[str]:
        text = self._inline(tokens[1])
        self._in_name = text == "Name"
        if tokens[0].tag == "h2":
            yield f".SH {_quoted(text if BACKSLASH in text else text.upper())}"
        elif tokens[0].tag != "h1":
            yield f".SS {_quoted(text)}"

    def _paragraph(self, tokens: Sequence[Token]) -> Iterator[str]:
        text = self._inline(tokens[1])
        if not text.strip():  # an image alone
            return
        if self._in_name:  # "*cache* - does this": whatis(1) needs the page's own name
            _, _, about = text.partition(" - ")
            about = about.replace("\n", " ").removesuffix(".")
            text = f"{_text(self._name, CODE_ESCAPES)} \\- {about}"
        elif self._loose:
            yield ".PP"
        yield from _lines(text)

    def _list(self, tokens: Sequence[Token]) -> Iterator[str]:
        at, number = 1, 1
        while at < len(tokens) - 1:
            end = _end_of(tokens, at)
            yield ".IP \\(bu 2" if tokens[0].tag == "ul" else f".IP {number}. 3"
            yield from self._item(tokens[at + 1 : end])
            at, number = end + 1, number + 1

    def _item(self, tokens: Sequence[Token]) -> Iterator[str]:
        first = _end_of(tokens, 0) + 1 if tokens else 0
        self._loose = False
        yield from self.blocks(tokens[:first])
        self._loose = True
        if first < len(tokens):
            yield ".RS 2"
            yield from self.blocks(tokens[first:])
            yield ".RE"

    def _quote(self, tokens: Sequence[Token]) -> Iterator[str]:
        yield ".RS 2"
        yield from self.blocks(tokens[1:-1])
        yield ".RE"

    def _code(self, text: str) -> Iterator[str]:
        yield ".PP"
        yield ".RS 4"
        yield ".EX"
        yield from (_guarded(_text(line, CODE_ESCAPES)) for line in text.rstrip("\n").split("\n"))
        yield ".EE"
        yield ".RE"

    def _table(self, tokens: Sequence[Token]) -> Iterator[str]:
        rows: list[list[str]] = []
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(self._inline(token))
        if len(rows[0]) == 2:  # terms and their descriptions
            for term, about in rows[1:]:
                yield ".TP"
                yield from _lines(term or "\\&")
                yield from _lines(about or "\\&")
            return
        yield ".TS"
        yield "allbox;"
        yield " ".join(["lbx"] * len(rows[0]))
        yield " ".join(["lx"] * len(rows[0])) + "."
        for row in rows:
            yield "\t".join(f"T{{\n{_lines_of(cell)}\nT}}" for cell in row)
        yield ".TE"

    def _inline(self, token: Token) -> str:
        parts, closing = [], []
        children = token.children or []
        for place, child in enumerate(children):
            if child.type == "text":
                parts.append(_text(child.content, ESCAPES))
            elif child.type in ("softbreak", "hardbreak"):
                parts.append("\n")
            elif child.type == "code_inline":
                parts.append(f"\\fB{_text(child.content, CODE_ESCAPES)}\\fR")
            elif child.type == "em_open":
                parts.append("\\fI")
            elif child.type == "strong_open":
                inner = children[place + 1].content
                parts.append("\\fI" if PLACEHOLDER.fullmatch(inner) else "\\fB")
            elif child.type in ("em_close", "strong_close"):
                parts.append("\\fR")
            elif child.type == "link_open":
                closing.append(str(child.attrs.get("href", "")))
            elif child.type == "link_close":
                target = closing.pop()
                parts.append(f" <{_text(target, CODE_ESCAPES)}>" if "://" in target else "")
            elif child.type != "image":
                raise ValueError(f"{self._name}: no way to show {child.type}")
        return "".join(parts)


def _end_of(tokens: Sequence[Token], at: int) -> int:
    """Return the index of the token that closes the block opened at `at`."""
    depth = 0
    for place in range(at, len(tokens)):
        depth += tokens[place].nesting
        if depth == 0:
            return place
    raise ValueError("a block without an end")


def _lines(text: str) -> Iterator[str]:
    yield from (_guarded(line.strip()) for line in text.split("\n") if line.strip())


def _lines_of(cell: str) -> str:
    return "\n".join(_lines(cell))


def _guarded(line: str) -> str:
    """Escape a line that roff would interpret as a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


if __name__ == "__main__":
    write(Path(sys.argv[1]))
