"""Environment variables in a Corefile: `{$NAME}`, `{%NAME%}` (Caddy: parse.go, replaceEnvVars).

`Environment` replaces variables while a Corefile is parsed. `Variables` records the variables in
use, so that diagnostics can name a variable that is not set, and hide the value of one that is set,
because it may be a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MAX_WORK = 64 * 1024 * 1024  # characters of text copied
_STEP = 256  # the fixed cost of one replacement, in characters copied

_REFERENCE = re.compile(r"\{\$([^}]+)\}|\{%((?:(?!%\}).)+)%\}", re.DOTALL)
_RUN = 4  # length of a match between a text and a value that counts as a part of the value
_DISTINCT = 6  # minimum length of a value to be hidden in diagnostics about other words, too


class EndlessReplacementError(Exception):
    """A variable's value refers to itself, or replacing makes the text grow without end.

    Caddy never returns in this case.
    """


class Variables:
    """The environment variables that one Corefile uses."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        """Start without variables."""
        self._values: dict[str, str | None] = {}

    def note(self, name: str, value: str | None) -> None:
        """Record that the variable `name` was replaced by `value`, or is not set (None)."""
        self._values[name] = value

    def missing_values(self, raw: str) -> str | None:
        """Return a message that names the unset and empty variables in the word `raw`, if any.

        `raw` is the word as written in the Corefile.
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

        `words` are the words, as written in the Corefile, that the text is about. For variables in
        these words, parts of the values are hidden as well.
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
        """Return the variables in the word `raw`, including those in the values of others."""
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
    """Set `owners` to `name` at each character of `text` that shows (a part of) `value`."""
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
    """Return `text` in lower case, with its length unchanged."""
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
        """Take values from `values`; a missing name is replaced by an empty text."""
        self.variables = Variables()
        self._values = values
        self._work_left = _MAX_WORK

    def replace(self, text: str) -> str:
        """Return `text` with its variables replaced. Raises `EndlessReplacementError`."""
        if "{" not in text:
            return text
        return self._replace(self._replace(text, "{%", "%}"), "{$", "}")

    def _replace(self, text: str, opening: str, closing: str) -> str:
        """Replace all variables of one syntax, including those in the values of others."""
        start = text.find(opening)
        while start != -1:
            end = text.find(closing, start)
            if end <= start + len(opening):  # unclosed or without a name: keep the rest unchanged
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
    """Leaves variables unreplaced."""

    def __init__(self) -> None:
        super().__init__({})

    def replace(self, text: str) -> str:
        """Return `text`."""
        return text
