"""Environment variables in a Corefile: `{$NAME}`, `{%NAME%}` (Caddy: parse.go, replaceEnvVars)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_WORK = 64 * 1024 * 1024  # characters of text copied
_STEP = 256  # characters that could be copied in the time that one replacement takes anyway


class EndlessReplacementError(Exception):
    """A variable's value mentions itself, or replacing makes the text grow without end.

    Caddy never returns from this; here it is an error.
    """


class Environment:
    """Replaces the variables of one Corefile."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Take values from `variables`; a name that is not there is replaced by nothing."""
        self._variables = variables
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
            return self._variables.get(name, "")
        except UnicodeEncodeError:  # os.environ cannot hold such a name in this locale
            return ""


class NoVariables(Environment):
    """Leaves variables as they are written."""

    def __init__(self) -> None:
        super().__init__({})

    def replace(self, text: str) -> str:
        """Return `text`."""
        return text
