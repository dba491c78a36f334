"""A cursor over the tokens of a directive (Caddy: dispenser.go), for plugin setup functions.

It behaves exactly as Caddy's, oddities included, because plugins ported from CoreDNS rely on it.
Methods that build an error return it: `raise dispenser.error(...)`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from corepy.corefile.diagnostics import CorefileError, Diagnostic, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.corefile.mistakes import Mistakes
    from corepy.corefile.model import Token


class Dispenser:
    """A cursor over tokens, initially before the first one."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        """Iterate over `tokens`, usually all tokens of one directive in one server block."""
        self._tokens = tokens
        self._cursor = -1
        self._nesting = 0

    @property
    def token(self) -> Token | None:
        """The current token; None before the first `next`."""
        return self._tokens[self._cursor] if 0 <= self._cursor < len(self._tokens) else None

    @property
    def val(self) -> str:
        """The current token's text; empty before the first `next`."""
        token = self.token
        return token.text if token else ""

    def next(self) -> bool:
        """Advance to the next token; at the last token, stay there and return False."""
        if self._cursor < len(self._tokens) - 1:
            self._cursor += 1
            return True
        return False

    def next_arg(self) -> bool:
        """Advance to the next token if it is on the same line."""
        return self._next_if(same_line=True)

    def next_line(self) -> bool:
        """Advance to the next token if it begins a new line."""
        return self._next_if(same_line=False)

    def next_block(self) -> bool:
        """Advance to the next token inside the braces opened on this line: `while d.next_block():`.

        Return False at the closing brace, or if no brace opens. Tokens of a nested block come one
        by one like all others; its closing brace ends the outer block.
        """
        if self._nesting > 0:
            if not self.next():
                return False
            if self.val == "}":
                self._nesting -= 1
                return False
            return True
        if not self.next_arg():
            return False
        if self.val != "{":
            self._cursor -= 1
            return False
        if not self.next() or self.val == "}":
            return False
        self._nesting += 1
        return True

    def args(self, count: int) -> list[str]:
        """Return the texts of the next `count` tokens on the line, or of all if there are fewer."""
        found: list[str] = []
        while len(found) < count and self.next_arg():
            found.append(self.val)
        return found

    def remaining_args(self) -> list[str]:
        """Return the texts of the remaining tokens on the line, up to an opening brace."""
        return [token.text for token in self.remaining_tokens()]

    def remaining_tokens(self) -> list[Token]:
        """Return the remaining tokens on the line, up to an opening brace."""
        found: list[Token] = []
        while self.next_arg():
            if self.val == "{":
                self._cursor -= 1
                break
            if (token := self.token) is not None:
                found.append(token)
        return found

    def line_tokens(self) -> list[Token]:
        """Return all tokens on the line of the current token, also those before it."""
        tokens, first, end = self._tokens, max(self._cursor, 0), self._cursor + 1
        while first > 0 and tokens[first - 1].same_line(tokens[first]):
            first -= 1
        while 0 < end < len(tokens) and tokens[end - 1].same_line(tokens[end]):
            end += 1
        return list(tokens[first:end])

    def error(
        self, message: str, token: Token | None = None, hint: str | None = None
    ) -> CorefileError:
        """Return an error with `message` about `token`, by default the current token."""
        return CorefileError(Diagnostic(message, token or self.token, hint))

    def arg_error(self, token: Token | None = None, hint: str | None = None) -> CorefileError:
        """Return the error for a missing argument after `token`, or for `token` as a surplus one.

        `token` is the current token by default.
        """
        token = token or self.token
        text = token.text if token else ""
        if text == "{":
            return self.error("unexpected token '{', expecting an argument", token, hint)
        message = f"wrong argument count or unexpected line ending after {quote(text)}"
        # A block on one line, `{ option }`: to Caddy the braces are arguments there.
        if text == "}":
            hint = "write the closing brace on a line of its own"
        return self.error(message, token, hint)

    @contextlib.contextmanager
    def statement(self, mistakes: Mistakes) -> Iterator[None]:
        """Parse the statement that begins at the current token: its line and the block on it.

        An error in it is added to `mistakes`, and the cursor moves to the statement's end.
        """
        start, nesting = self._cursor, self._nesting
        try:
            yield
        except CorefileError as error:
            mistakes.diagnostics += error.diagnostics
            self._cursor, self._nesting = self._end_of_statement(start), nesting

    def _end_of_statement(self, start: int) -> int:
        """Return the index of the last token of the statement that begins at index `start`."""
        position, open_braces = start, 0
        for position in range(start, len(self._tokens) - 1):
            following = self._tokens[position + 1]
            if not open_braces and (
                following.text == "}" or self._tokens[position].before_line(following)
            ):
                return position
            open_braces += (following.text == "{") - (following.text == "}")
        return max(position, len(self._tokens) - 1)

    def _next_if(self, *, same_line: bool) -> bool:
        if self._cursor < 0:
            self._cursor = 0
            return True
        if self._cursor >= len(self._tokens) - 1:
            return False
        current, following = self._tokens[self._cursor : self._cursor + 2]
        go = current.same_line(following) if same_line else current.before_line(following)
        self._cursor += go
        return go
