"""The parts of a parsed Corefile: tokens, directives, server blocks.

These classes hold values only; they read no files and depend on no plugin. A token refers to its
source text, so that an error found long after parsing can still show the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.corefile.environment import Variables


class Source:
    """A text that tokens come from. Tokens are in the same file if they share this object."""

    __slots__ = ("hidden", "hidden_by_line", "name", "open_quote", "origins", "text", "variables")

    def __init__(self, name: str, text: str) -> None:
        """Take the file's `name` for messages and its decoded `text`."""
        self.name = name
        self.text = text
        self.origins: Sequence[tuple[str, int]] = ()
        """The file and line that each line of a generated text comes from."""
        self.open_quote: Token | None = None
        """The unclosed quote at the end of the file, set by the lexer."""
        self.variables: Variables | None = None
        """The environment variables of the Corefile that includes this text, set after parsing."""
        self.hidden: list[Token] = []
        """The tokens that messages must not show, see `Token.hide`."""
        self.hidden_by_line: dict[int, list[Token]] = {}
        """The same, by the lines that they are on."""

    def place(self, line: int) -> tuple[str, int]:
        """Return the file and line to name in a message about the line `line` of this text."""
        return self.origins[line - 1] if 0 < line <= len(self.origins) else (self.name, line)

    def line(self, number: int) -> str:
        """Return the line `number`, counted from 1, without its line end; "" beyond the end."""
        lines = self.text.split("\n", number)
        return lines[number - 1] if 0 < number <= len(lines) else ""


class Import:
    """An expanded import: its position and its nesting depth (1 is outermost)."""

    __slots__ = ("depth", "name", "token")

    def __init__(self, name: str, token: Token) -> None:
        """Take the imported file or "(snippet)", and the argument `token` that names it."""
        self.name = name
        self.token = token
        self.depth: int = token.origin.depth + 1 if token.origin else 1


class Token(NamedTuple):
    """A word of a Corefile and its position. Tokens compare by identity."""

    text: str
    """The text, with environment variables replaced where Caddy replaces them."""

    raw: str
    """The text as written, before variables were replaced."""

    source: Source
    line: int
    """Line in the source, counted from 1; the first line of a quoted text with several."""

    column: int
    """Column in characters, counted from 1."""

    length: int
    """Length in the source in characters, with quotes and line ends."""

    quoted: bool = False
    origin: Import | None = None
    """The import that inserted the token, if any."""

    @property
    def file(self) -> str:
        """The name of the file that contains the token."""
        return self.source.name

    @property
    def location(self) -> str:
        """The token's position, as `file:line:column`; in a generated text, that of its origin."""
        file, line = self.source.place(self.line)
        return f"{file}:{line}:{self.column}"

    @property
    def imports(self) -> tuple[Token, ...]:
        """The arguments of the imports that inserted the token, outermost first."""
        chain, origin = [], self.origin
        while origin is not None:
            chain.append(origin.token)
            origin = origin.token.origin
        return tuple(reversed(chain))

    def with_text(self, text: str) -> Token:
        """Return the token with another `text`, such as after replacing variables."""
        return Token(text, *self[1:])

    def imported_by(self, origin: Import) -> Token:
        """Return a copy of the token as inserted by the import `origin`."""
        return Token(*self[:7], origin)

    def same_line(self, following: Token) -> bool:
        """Return whether `following` continues this token's line (Caddy: Dispenser.NextArg)."""
        return self.source is following.source and self.last_line == following.line

    def before_line(self, following: Token) -> bool:
        """Return whether `following` begins a new line (Caddy: Dispenser.isNewLine).

        This is not the opposite of `same_line`: a snippet's tokens may be above the import in the
        file.
        """
        return self.source is not following.source or self.last_line < following.line

    @property
    def last_line(self) -> int:
        """The line that the token ends on; as in Caddy, line ends in a variable's value count."""
        return self.line + self.text.count("\n")

    def hide(self) -> None:
        """Replace the token by asterisks where a message shows its line: it is a secret."""
        self.source.hidden.append(self)
        for line in range(self.line, self.line + self.raw.count("\n") + 1):
            self.source.hidden_by_line.setdefault(line, []).append(self)

    def __repr__(self) -> str:
        return f"<Token {self.text!r} at {self.location}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Directive(NamedTuple):
    """One occurrence of a directive in a server block."""

    name: str
    """The name, with environment variables replaced, unlike the first token's text."""

    tokens: tuple[Token, ...]
    """The tokens in order, from the name on, with braces."""

    @property
    def token(self) -> Token:
        """The token that names the directive."""
        return self.tokens[0]


class ServerBlock:
    """A server block: its keys (zones, with port and transport) and their directives."""

    __slots__ = ("directives", "empty_keys", "keys", "opening", "statements")

    def __init__(
        self,
        keys: tuple[Token, ...],
        statements: list[Directive],
        opening: Token | None = None,
        empty_keys: tuple[Token, ...] = (),
    ) -> None:
        """Take the `keys`, and the directives (`statements`) in the order of the file."""
        self.keys = keys
        self.statements = statements
        self.opening = opening
        """The opening brace, or the token in its place."""
        self.empty_keys = empty_keys
        """The keys that are empty, such as an unset variable."""
        self.directives: dict[str, list[Token]] = {}
        for name, tokens in statements:
            self.directives.setdefault(name, []).extend(tokens)

    def __repr__(self) -> str:
        return f"<ServerBlock {' '.join(key.text for key in self.keys)}>"
