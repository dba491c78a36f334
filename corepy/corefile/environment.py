"""Environment variables in a Corefile: `{$NAME}`, `{%NAME%}` (Caddy: parse.go, replaceEnvVars).

`Environment` replaces them while a Corefile is parsed. `Variables` remembers which ones were used,
so that a diagnostic names a variable that is not set, and never prints the value of one that is: it
may be a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MAX_WORK = 64 * 1024 * 1024  # characters of text copied
_STEP = 256  # characters that could be copied in the time that one replacement takes anyway

_REFERENCE = re.compile(r"\{\$([^}]+)\}|\{%((?:(?!%\}).)+)%\}", re.DOTALL)
_RUN = 4  # characters that a text and a value have in common before that is taken for a part of it
_DISTINCT = 6  # characters of a value that is hidden in diagnostics about other words, too


class EndlessReplacementError(Exception):
    """A variable's value mentions itself, or replacing makes the text grow without end.

    Caddy never returns from this; here it is an error.
    """


class Variables:
    """The environment variables that one Corefile uses."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        """Know of none yet."""
        self._values: dict[str, str | None] = {}

    def note(self, name: str, value: str | None) -> None:
        """Remember that the variable `name` was replaced by `value`; None if it is not set."""
        self._values[name] = value

    def absence(self, raw: str) -> str | None:
        """Return a sentence that names the variables of the word `raw` that have no value, if any.

        `raw` is the word as it is written in the Corefile.
        """
        parts = []
        for name in self._names_in(raw):
            value = self._values[name]
            if value is None:
                parts.append(f"the environment variable {name} is not set")
            elif not value:
                parts.append(f"the environment variable {name} is empty")
        return ", ".join(parts) or None

    def hide(self, text: str, words: Iterable[str]) -> str:
        """Return `text` with the values of variables replaced by the references to them.

        `words` are the words of the Corefile, as they are written there, that the text is about:
        of the values in those, parts are hidden as well.
        """
        if not self._values or not text:
            return text
        own = {name for word in words for name in self._names_in(word)}
        owners = ["" for _ in text]
        for name, value in self._values.items():
            if value and (name in own or len(value) >= _DISTINCT):
                _mark(owners, text, name, value, partly=name in own)
        return "".join(_with_references(text, owners))

    def _names_in(self, raw: str) -> list[str]:
        """Return the variables that a word mentions, also through the values of others."""
        names: dict[str, None] = {}
        texts = [raw]
        while texts:
            for match in _REFERENCE.finditer(texts.pop()):
                name = match[1] or match[2]
                if name in self._values and name not in names:
                    names[name] = None
                    texts.append(self._values[name] or "")
        return list(names)


def _mark(owners: list[str], text: str, name: str, value: str, *, partly: bool) -> None:
    """Write `name` into `owners` at each character of `text` that shows (a part of) `value`."""
    folded = _folded(text)
    for shown in {_folded(value), _folded(repr(value)[1:-1])}:
        edge = r"\b" if len(shown) < _RUN and shown.isalnum() else ""
        for match in re.finditer(f"{edge}{re.escape(shown)}{edge}", folded):
            _fill(owners, name, *match.span())
        if not partly:
            continue
        runs = {shown[start : start + _RUN] for start in range(len(shown) - _RUN + 1)}
        for start in range(len(folded) - _RUN + 1):
            if folded[start : start + _RUN] in runs:
                _fill(owners, name, start, start + _RUN)
        for match in re.finditer(r"""(['"])(.+?)\1""", folded):
            if match[2] in shown:
                _fill(owners, name, *match.span(2))


def _folded(text: str) -> str:
    """Return `text` in lower case, with as many characters as it has."""
    return text.lower() if text.isascii() else "".join(char.lower()[:1] for char in text)


def _fill(owners: list[str], name: str, start: int, end: int) -> None:
    for place in range(start, end):
        owners[place] = owners[place] or name


def _with_references(text: str, owners: list[str]) -> Iterator[str]:
    before = ""
    for char, owner in zip(text, owners, strict=True):
        if not owner:
            yield char
        elif owner != before:
            yield f"{{${owner}}}"
        before = owner


class Environment:
    """Replaces the variables of one Corefile."""

    def __init__(self, values: Mapping[str, str]) -> None:
        """Take values from `values`; a name that is not there is replaced by nothing."""
        self.variables = Variables()
        self._values = values
        self._work_left = _MAX_WORK

    def replace(self, text: str) -> str:
        """Return `text` with its variables replaced. Raises `EndlessReplacementError`."""
        if "{" not in text:
            return text
        return self._replace(self._replace(text, "{%", "%}"), "{$", "}")

    def _replace(self, text: str, opening: str, closing: str) -> str:
        """All of one spelling; a value may bring further variables, and is searched as well."""
        start = text.find(opening)
        while start != -1:
            end = text.find(closing, start)
            if end <= start + len(opening):  # cut off, or without a name: the rest stays as it is
                break
            reference = text[start : end + len(closing)]
            text = text.replace(reference, self._value(reference[len(opening) : -len(closing)]))
            self._work_left -= len(text) + _STEP
            if self._work_left < 0:
                raise EndlessReplacementError
            start = text.find(opening)
        return text

    def _value(self, name: str) -> str:
        try:
            value = self._values.get(name)
        except UnicodeEncodeError:  # os.environ cannot hold such a name in this locale
            value = None
        self.variables.note(name, value)
        return value or ""


class NoVariables(Environment):
    """Leaves variables as they are written."""

    def __init__(self) -> None:
        super().__init__({})

    def replace(self, text: str) -> str:
        """Return `text`."""
        return text
