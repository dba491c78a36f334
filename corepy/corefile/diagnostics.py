"""Error messages for a Corefile, with the source position and a hint.

A `Diagnostic` is one error or warning, `CorefileError` carries one or more. `render` formats them
for people, with the source line, `to_json` for programs. Text of a Corefile is never printed
verbatim: control characters and words that may be secrets are replaced, and long lines are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from corepy.corefile.redaction import HIDDEN, masked, without_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.corefile.model import Token

Severity = Literal["error", "warning"]

_WIDTH = 120  # columns of a source line that are shown
_CONTEXT = 500  # columns before those that are shown, where a word may show that a secret follows
_SHOWN_IMPORTS = 8  # of a chain, at its inner and outer end together
_SHOWN_TEXT = 60  # characters of a token that a message quotes


class Diagnostic(NamedTuple):
    """One error or warning."""

    message: str
    """The problem, in lower case, without a position and without a full stop."""

    token: Token | None = None
    """The token at fault; None for a problem without a position."""

    hint: str | None = None
    """How to fix the problem."""

    severity: Severity = "error"
    related: tuple[tuple[str, Token], ...] = ()
    """Other positions that are part of the problem, each with a description."""

    def __str__(self) -> str:
        shown = self.for_display()
        hint = f" ({_printable(shown.hint)})" if shown.hint else ""
        return f"{_headline(shown)}{hint}"

    def for_display(self) -> Diagnostic:
        """Return the diagnostic without secrets, for display.

        Values of environment variables are hidden, because they may be passwords, and hidden tokens
        that the message quotes. The hint names variables without a value.
        """
        if self.token is None:
            return self._without_secrets(())
        tokens = [self.token, *(token for _, token in self.related)]
        hidden = [secret for it in tokens for secret in it.source.hidden_by_line.get(it.line, ())]
        return self._without_variables(self.token)._without_secrets(hidden)

    def _without_secrets(self, tokens: Sequence[Token]) -> Diagnostic:
        """Return the diagnostic without secrets of URLs, and without `tokens` where it quotes them.

        Tokens are replaced only with their quotes, since a short one may be a part of other words.
        """

        def shown(text: str) -> str:
            for token in tokens:
                for quoted in {repr(token.text), quote(token.text)}:
                    text = text.replace(quoted, repr(HIDDEN))
            return without_parameters(text)

        related = tuple((shown(text), token) for text, token in self.related)
        hint = shown(self.hint) if self.hint else None
        return self._replace(message=shown(self.message), hint=hint, related=related)

    def _without_variables(self, token: Token) -> Diagnostic:
        """Return the diagnostic without the values of variables; `token` is its own."""
        variables = token.source.variables
        if variables is None:
            return self
        words = [token.raw, *(token.raw for _, token in self.related)]
        hint = variables.hide(self.hint, words) if self.hint else None
        missing = variables.missing_values(token.raw) if self.severity == "error" else None
        if missing is not None and missing not in (hint or ""):
            hint = f"{missing}; {hint}" if hint else missing
        related = tuple((variables.hide(text, words), token) for text, token in self.related)
        return self._replace(
            message=variables.hide(self.message, words), hint=hint, related=related
        )


class CorefileError(Exception):
    """A Corefile is invalid. Show `str()` of this error, or its `diagnostics`, to the user."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Take one or more diagnostics in the order of display."""
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        return render(self.diagnostics)


def quote(text: str) -> str:
    """Return `text` in quotes for a message, shortened if it is very long."""
    return repr(text if len(text) <= _SHOWN_TEXT else text[: _SHOWN_TEXT - 3] + "...")


def render(diagnostics: Sequence[Diagnostic]) -> str:
    """Return the diagnostics as text: position and message, source line, caret, imports, hint."""
    return "\n".join(line for diagnostic in diagnostics for line in _lines(diagnostic))


def to_json(diagnostics: Sequence[Diagnostic], *, valid: bool | None = None) -> str:
    """Return the diagnostics as a JSON object with `valid` and `diagnostics`.

    By default, `valid` is true if none of them is an error.
    """
    import json

    if valid is None:
        valid = all(diagnostic.severity != "error" for diagnostic in diagnostics)
    return json.dumps({"valid": valid, "diagnostics": [as_dict(each) for each in diagnostics]})


def as_dict(diagnostic: Diagnostic) -> dict[str, object]:
    """Return a diagnostic as plain data for JSON."""
    diagnostic = diagnostic.for_display()
    token = diagnostic.token
    return {
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
        **(_place(token) if token else {"file": None, "line": None, "column": None}),
        "imports": [_place(site) for site in token.imports] if token else [],
        "related": [{"message": text, **_place(site)} for text, site in diagnostic.related],
    }


def _place(token: Token) -> dict[str, object]:
    file, line = token.source.place(token.line)
    return {
        "file": file,
        "line": line,
        "column": token.column,
        "length": token.length,
    }


def _headline(diagnostic: Diagnostic) -> str:
    location = f"{_printable(diagnostic.token.location)}: " if diagnostic.token else ""
    warning = "warning: " if diagnostic.severity == "warning" else ""
    return f"{location}{warning}{_printable(diagnostic.message)}"


def _lines(diagnostic: Diagnostic) -> list[str]:
    diagnostic = diagnostic.for_display()
    token = diagnostic.token
    shown = [_headline(diagnostic)]
    if token is not None:
        shown += _excerpt(token)
        shown += _chain(token.imports)
    for text, site in diagnostic.related:
        shown.append(f"  {_printable(text)}: {_printable(site.location)}")
        shown += _excerpt(site)
        shown += _chain(site.imports)
    if diagnostic.hint:
        shown.append(f"  hint: {_printable(diagnostic.hint)}")
    return shown


def _chain(imports: Sequence[Token]) -> list[str]:
    """Format the imports that led here, innermost first; leave out the middle of a long list."""
    lines = [f"  imported at {_printable(site.location)}" for site in reversed(imports)]
    left_out = len(lines) - _SHOWN_IMPORTS
    if left_out > 0:
        half = _SHOWN_IMPORTS // 2
        lines[half:-half] = [f"  ... {left_out} more imports"]
    return lines


def _excerpt(token: Token) -> list[str]:
    """Return the source line without secrets, and a line that marks the token in it."""
    line, start = _without_hidden(token).rstrip("\r"), token.column - 1
    if start > len(line):  # a token created without its source text
        return []
    length = max(1, min(token.length, len(line) - start))
    line, start, length = _crop(line, start, length)
    number = str(token.source.place(token.line)[1])
    pad = "".join("\t" if char == "\t" else " " * _columns(char) for char in line[:start])
    mark = "^" + "~" * (sum(map(_columns, line[start : start + length])) - 1)
    return [f"  {number} | {line}", f"  {' ' * len(number)} | {pad}{mark}"]


def _without_hidden(token: Token) -> str:
    """Return the line of `token`, with its hidden tokens replaced by asterisks."""
    source = token.source
    line = source.line(token.line)
    for secret in source.hidden_by_line.get(token.line, ()):
        above = range(secret.line, token.line)
        begin = secret.column - 1 - sum(len(source.line(number)) + 1 for number in above)
        start, end = max(begin, 0), max(begin + secret.length, 0)
        line = f"{line[:start]}{'*' * len(line[start:end])}{line[end:]}"
    return line


def _crop(line: str, start: int, length: int) -> tuple[str, int, int]:
    """Return the text around the token, without words that may be secrets, and its position."""
    first = max(0, min(start - _WIDTH // 3, len(line) - _WIDTH)) if len(line) > _WIDTH else 0
    before = max(0, first - _CONTEXT)
    around = _printable(masked(line[before : first + _WIDTH], start - before))
    cropped = around[first - before :]
    return cropped, start - first, min(length, len(cropped) - (start - first))


def _columns(char: str) -> int:
    """Return the width of `char` in terminal columns."""
    if " " <= char <= "~":
        return 1
    import unicodedata

    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _printable(text: str) -> str:
    """Return `text` with unprintable characters, such as terminal control codes, replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)
