"""Decodes JSON that arrives in portions, so that a long document is never held as a whole.

`JSONLines` is for streams of documents, one a line, as the APIs of Kubernetes and etcd send events.
`JSONItems` is for one document, an object with a long array in it, as they send lists: it yields
the elements of the array one by one.

Both raise ValueError for anything malformed, nested too deeply, or too long.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 16 << 20
"""Characters of one line, or of one element; larger ones are refused."""

MOST_MEMBERS: Final = 1000
"""Members of one document beside its array."""

_decode = json.JSONDecoder().raw_decode
_SPACE: Final = " \t\n\r"
_DELIMITERS: Final = frozenset(",:]} \t\n\r")


class JSONLines:
    """Splits a stream into lines, and decodes each of them."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._rest = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the documents that are complete with `data`.

        Each is decoded when it is taken, so the caller can pause between two. All must be taken.
        """
        self._rest += data
        while (end := self._rest.find(b"\n", self._searched)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            self._searched = 0
            if line.strip():
                yield _document(line)
        self._searched = len(self._rest)
        if self._searched > self._largest:
            raise ValueError(f"a line has more than {self._largest} bytes")


def _document(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


class JSONItems:
    """Decodes one JSON object, and the elements of the array that is its member `name`."""

    def __init__(self, name: str, largest: int = LARGEST) -> None:
        """Limit each element, and each of the other members, to `largest` characters."""
        self._name = name
        self._largest = largest
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._wanted = 0
        """Characters behind `_at` without which another attempt to decode is useless."""
        self._expected: str = "{"
        """The next token: one of "{", "key", ":", "value", "item", ",", "]," or "end"."""
        self._key = ""
        self._is_empty = True
        """Whether the object or the array that is being read has no member so far."""
        self.members: dict[str, Any] = {}
        """The other members of the object; complete when `is_complete`."""

    @property
    def is_complete(self) -> bool:
        """Whether the end of the object has arrived."""
        return self._expected == "end"

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Any]:
        """Yield the elements that are complete with `data`.

        Each is decoded when it is taken, so the caller can pause between two. All must be taken.
        With `final`, no more data follows: raises ValueError if the document is not complete.
        """
        self._text = self._text[self._at :] + self._utf8.decode(data, final)
        self._at = 0
        if final or len(self._text) >= self._wanted:
            yield from self._items(final=final)
        if len(self._text) - self._at > self._largest:
            raise ValueError(f"an element has more than {self._largest} characters")
        if final and not self.is_complete:
            raise ValueError("the JSON document ends early")

    def _items(self, *, final: bool) -> Iterator[Any]:
        self._wanted = 0
        while (char := self._skip_space()) != "":
            if self._expected == "item" and char != "]":
                item = self._value(final=final)
                if item is _INCOMPLETE:
                    return
                self._expected, self._is_empty = "],", False
                yield item
            elif not self._step(char, final=final):
                return

    def _skip_space(self) -> str:
        """Return the next character that is not white space, "" if it has not arrived."""
        text, at = self._text, self._at
        while (char := text[at : at + 1]) and char in _SPACE:
            at += 1
        self._at = at
        return char

    def _step(self, char: str, *, final: bool) -> bool:
        """Process one token other than an element; return False if it is incomplete."""
        expected = self._expected
        if expected in ("key", "value"):
            return self._member(char, final=final)
        if expected == "{" and char == "{":
            self._expected, self._is_empty = "key", True
        elif expected == ":" and char == ":":
            self._expected = "value"
        elif expected in ("item", "],") and char == "]" and (expected == "],") != self._is_empty:
            self._expected, self._is_empty = ",", False
        elif expected == "]," and char == ",":
            self._expected, self._is_empty = "item", False
        elif expected == "," and char in ",}":
            self._expected = "key" if char == "," else "end"
        else:
            raise ValueError(f"unexpected {char!r} in JSON")
        self._at += 1
        return True

    def _member(self, char: str, *, final: bool) -> bool:
        if self._expected == "key" and char == "}" and self._is_empty:
            self._expected = "end"
            self._at += 1
            return True
        if self._expected == "value" and self._key == self._name and char == "[":
            self._expected, self._is_empty = "item", True
            self._at += 1
            return True
        value = self._value(final=final)
        if value is _INCOMPLETE:
            return False
        if self._expected == "value":
            self.members[self._key] = value
            if len(self.members) > MOST_MEMBERS:
                raise ValueError(f"a JSON object has more than {MOST_MEMBERS} members")
            self._expected, self._is_empty = ",", False
        elif isinstance(value, str):
            self._key, self._expected = value, ":"
        else:
            raise ValueError("a key in JSON is not a string")
        return True

    def _value(self, *, final: bool) -> Any:
        try:
            value, end = _decode(self._text, self._at)
        except RecursionError:
            raise ValueError("JSON is nested too deeply") from None
        except ValueError:
            if final:
                raise
            return self._wait()
        if not final and self._text[end : end + 1] not in _DELIMITERS:  # a number may continue
            return self._wait()
        self._at = end
        return value

    def _wait(self) -> Any:
        """Wait until twice as much has arrived, so that a long value is not decoded too often."""
        self._wanted = 2 * (len(self._text) - self._at)
        return _INCOMPLETE


_INCOMPLETE: Final = object()
