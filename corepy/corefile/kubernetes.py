"""Finds Corefiles in Kubernetes manifests: ConfigMaps as YAML or JSON, any number in one file.

This is not a YAML parser. It reads the subset that `kubectl get -o yaml` and people write: one key
at the beginning of a line, with a block scalar or a double-quoted text as its value.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FIELDS = (re.compile(r"^(- )?apiVersion:", re.MULTILINE), re.compile(r"^ *kind:", re.MULTILINE))
_KEY = re.compile(r"""( *(?:- +)*)(?:"([^"]+)"|'([^']+)'|([\w./-]+)) *:(?: +(.*))?$""")
_BLOCK = re.compile(r"[|>][0-9+-]* *(?:#.*)?$")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b"}


class Embedded(NamedTuple):
    """A Corefile inside a manifest."""

    title: str
    """A title for people, such as "cm.yaml: data.Corefile of coredns"."""

    name: str
    """The file name for diagnostics.

    Their line numbers are those of the manifest, unless the value is quoted.
    """

    text: str


def is_manifest(text: str) -> bool:
    """Return whether `text` is a Kubernetes manifest, which is never a valid Corefile."""
    if text.lstrip()[:1] == "{":
        return bool(_objects(text))
    return all(field.search(text.removeprefix("\ufeff")) for field in _FIELDS)


def embedded(name: str, text: str) -> list[Embedded]:
    """Return the Corefiles in the manifest `text` of the file `name`, in order.

    A Corefile is the value of a key below `data` that begins with "Corefile" or ends in ".server".
    """
    if text.lstrip()[:1] == "{":
        return list(_of_json(name, text))
    return list(_of_yaml(name, text.removeprefix("\ufeff").split("\n")))


def _is_corefile(key: str) -> bool:
    return key.startswith("Corefile") or key.endswith(".server")


def _objects(text: str) -> list[dict[str, object]]:
    """Return the objects of a JSON manifest, with a List expanded; nothing for any other text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict) or not {"apiVersion", "kind"} <= found.keys():
        return []
    items = found.get("items")
    return [it for it in items if isinstance(it, dict)] if isinstance(items, list) else [found]


def _of_json(name: str, text: str) -> Iterator[Embedded]:
    for each in _objects(text):
        data, metadata = each.get("data"), each.get("metadata")
        owner = metadata.get("name", "") if isinstance(metadata, dict) else ""
        for key, value in data.items() if isinstance(data, dict) else ():
            if _is_corefile(key) and isinstance(value, str):
                yield Embedded(_title(name, key, str(owner)), f"{name}(data.{key})", value)


def _title(name: str, key: str, owner: str) -> str:
    return f"{name}: data.{key}{f' of {owner}' if owner else ''}"


def _of_yaml(name: str, lines: Sequence[str]) -> Iterator[Embedded]:
    """Yield the Corefiles below each `data`, per document: its name may follow its data."""
    found: list[tuple[str, str, str]] = []
    owner, parents, number = "", list[tuple[int, str]](), 0
    while number < len(lines):
        line = lines[number].rstrip("\r")
        number += 1
        if line.startswith("---") or _begins_item(line):
            yield from (Embedded(_title(name, it[0], owner), *it[1:]) for it in found)
            owner, parents, found = "", [], []
        match = _KEY.match(line)
        if match is None:
            continue
        indent, key, value = len(match[1]), match[2] or match[3] or match[4], match[5] or ""
        parents = [parent for parent in parents if parent[0] < indent]
        above = parents[-1][1] if parents else ""
        parents.append((indent, key))
        first = number
        if _BLOCK.match(value):
            number = _end_of_block(lines, number, indent)
            text = "\n" * first + "\n".join(lines[first:number]) + "\n"
            source = name
        elif value.startswith('"'):
            text, number = _quoted(lines, number - 1, line.index(value, match.end(0) - len(value)))
            source = f"{name}(data.{key})"
        else:
            if (above, key) == ("metadata", "name"):
                owner = value.strip("'")
            continue
        if above == "data" and _is_corefile(key):
            found.append((key, source, text))
        elif (above, key) == ("metadata", "name"):
            owner = text
    yield from (Embedded(_title(name, it[0], owner), *it[1:]) for it in found)


def _begins_item(line: str) -> bool:
    """Return whether a line begins an object of a List."""
    return re.match(r" {0,2}- +(apiVersion|kind|data|metadata):", line) is not None


def _end_of_block(lines: Sequence[str], start: int, indent: int) -> int:
    """Return the number of the line after a block scalar whose key is indented by `indent`."""
    end = start
    for number in range(start, len(lines)):
        text = lines[number]
        if not text.strip():
            continue
        if len(text) - len(text.lstrip(" ")) <= indent:
            break
        end = number + 1
    return end


def _quoted(lines: Sequence[str], number: int, column: int) -> tuple[str, int]:
    """Return the double-quoted text that begins at a position, and the number of the next line."""
    raw, first = "", number
    piece = lines[number][column + 1 :]
    while True:
        closing = re.match(r'(?:[^"\\]|\\.)*"', piece)
        if closing is not None:
            raw += closing[0][:-1]
            break
        number += 1
        if number >= len(lines):
            return _unescaped(raw), first + 1
        folded = piece.endswith("\\")
        raw += piece[:-1] if folded else f"{piece.rstrip()} "
        piece = lines[number].lstrip()
    return _unescaped(raw), number + 1


def _unescaped(raw: str) -> str:
    def plain(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(plain, raw)
