"""Label selectors (k8s.io/apimachinery: pkg/labels/selector.go, pkg/apis/meta/v1/helpers.go).

selector    = requirement {"," requirement}
requirement = ["!"] KEY | KEY ("=" | "==" | "!=") [VALUE] | KEY ("in" | "notin") "(" values ")"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYMBOLS: Final = "=!(),<>"
_MAX_NAME: Final = 63
_MAX_PREFIX: Final = 253
_WORD_SIGNS: Final = "-_."
_EXAMPLE: Final = "such as environment in (production, staging),application=nginx"


class InvalidSelector(ValueError):
    """The text is not a label selector; the message contains the reason."""


def canonical_selector(text: str) -> str:
    """Return a label selector in the form of the API: sorted, without optional spaces.

    Raises `InvalidSelector`.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._words = list(_words(text))
        self._at = 0

    def parse(self) -> str:
        found = [self._requirement()]
        while self._peek() == ",":
            self._take()
            found.append(self._requirement())
        if self._peek():
            raise InvalidSelector(f"unexpected {self._peek()!r}")
        return ",".join(text for _, text in sorted(found))

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _take(self) -> str:
        word = self._peek()
        self._at += 1
        return word

    def _requirement(self) -> tuple[str, str]:
        """Return the key and the whole requirement."""
        if self._peek() == "!":
            self._take()
            key = self._key()
            return key, f"!{key}"
        key = self._key()
        operator = self._peek()
        if operator in ("", ","):
            return key, key
        self._take()
        if operator in ("=", "=="):
            return key, f"{key}={self._value()}"
        if operator == "!=":
            return key, f"{key}!={self._value()}"
        if operator in ("in", "notin"):
            return key, f"{key} {operator} ({','.join(self._values())})"
        if operator in ("<", ">"):
            raise InvalidSelector(f"{operator!r} is not supported in label selectors")
        raise InvalidSelector(f"unexpected {operator!r} after {key!r}, {_EXAMPLE}")

    def _key(self) -> str:
        key = self._take()
        if not key or key[0] in _SYMBOLS:
            raise InvalidSelector(f"a key of a label is missing before {key or 'the end'!r}")
        prefix, slash, name = key.rpartition("/")
        if slash and not _is_domain(prefix):
            raise InvalidSelector(f"{key!r} is not a key of a label: invalid prefix {prefix!r}")
        if not _is_word(name):
            raise InvalidSelector(f"{key!r} is not a key of a label")
        return key

    def _value(self) -> str:
        """Return the value of a requirement, which may be empty."""
        word = self._peek()
        if word in ("", ",", ")"):
            return ""
        self._take()
        if not _is_word(word):
            raise InvalidSelector(f"{word!r} is not a value of a label")
        return word

    def _values(self) -> list[str]:
        if self._take() != "(":
            raise InvalidSelector(f"'(' is missing, {_EXAMPLE}")
        found = {self._value()}
        while self._peek() == ",":
            self._take()
            found.add(self._value())
        if self._take() != ")":
            raise InvalidSelector(f"')' is missing, {_EXAMPLE}")
        return sorted(found)


def _words(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        start = at
        if text[at : at + 2] in ("==", "!="):
            at += 2
        elif text[at] in _SYMBOLS or text[at].isspace():
            at += 1
        else:
            while at < len(text) and text[at] not in _SYMBOLS and not text[at].isspace():
                at += 1
        if not text[start].isspace():
            yield text[start:at]


def _is_word(text: str) -> bool:
    """Return whether `text` is a name of a key, or a value of a label that is not empty."""
    if not 0 < len(text) <= _MAX_NAME or not text.isascii():
        return False
    if not (text[0].isalnum() and text[-1].isalnum()):
        return False
    return all(char.isalnum() or char in _WORD_SIGNS for char in text)


def _is_domain(text: str) -> bool:
    """Return whether `text` is a DNS subdomain in lower case (RFC 1123)."""
    if len(text) > _MAX_PREFIX or text != text.lower() or "_" in text:
        return False
    return all(_is_word(label) for label in text.split("."))
