"""What a Corefile is once it has been read: tokens, directives, server blocks.

Values only; nothing here reads files or knows a plugin. A token knows its place and the text it
stands in, so that a mistake found long after parsing can still be shown in its line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from corepy.corefile.diagnostics import Diagnostic
    from corepy.corefile.environment import Variables


class Source:
    """A text that tokens come from. Two tokens are of the same file if they share the object."""

    __slots__ = ("name", "open_quote", "text", "variables")

    def __init__(self, name: str, text: str) -> None:
        """`name` is how messages call the file, `text` its decoded content."""
        self.name = name
        self.text = text
        self.open_quote: Token | None = None
        """The quoted text that the end of the file ended; the lexer notes it."""
        self.variables: Variables | None = None
        """The environment variables of the Corefile that it belongs to, once that is parsed."""

    def line(self, number: int) -> str:
        """Return the line `number`, counted from 1, without its end; empty if there is none."""
        lines = self.text.split("\n", number)
        return lines[number - 1] if 0 < number <= len(lines) else ""


class Import:
    """An import that was expanded: where it stands, and how deep (1 is outermost)."""

    __slots__ = ("depth", "name", "token")

    def __init__(self, name: str, token: Token) -> None:
        """`name` is the file or "(snippet)" brought in, `token` the argument that names it."""
        self.name = name
        self.token = token
        self.depth: int = token.origin.depth + 1 if token.origin else 1


class Token(NamedTuple):
    """A word of a Corefile and its place. Tokens compare by identity: each is one place."""

    text: str
    """What it says, with environment variables replaced where Caddy replaces them."""

    raw: str
    """What it said before that."""

    source: Source
    line: int
    """Counted from 1, in the source; for a quoted text over several lines the first of them."""

    column: int
    """Counted from 1, in characters."""

    length: int
    """Characters that it takes up in the source, quotes and line ends included."""

    quoted: bool = False
    origin: Import | None = None
    """The import that brought it here, if any."""

    @property
    def file(self) -> str:
        """The name of the file that it stands in."""
        return self.source.name

    @property
    def end_column(self) -> int:
        """The column behind it, were it all on one line."""
        return self.column + self.length

    @property
    def place(self) -> str:
        """Where it stands, as `file:line:column`."""
        return f"{self.source.name}:{self.line}:{self.column}"

    @property
    def imports(self) -> tuple[Token, ...]:
        """The arguments of the imports that brought it here, outermost first."""
        chain, origin = [], self.origin
        while origin is not None:
            chain.append(origin.token)
            origin = origin.token.origin
        return tuple(reversed(chain))

    def with_text(self, text: str) -> Token:
        """Return the token with another `text`, such as after replacing variables."""
        return Token(text, *self[1:])

    def brought_by(self, origin: Import) -> Token:
        """Return the token as it appears in place of an import."""
        return Token(*self[:7], origin)

    def same_line(self, following: Token) -> bool:
        """Whether `following` continues this token's line (Caddy: Dispenser.NextArg)."""
        return self.source is following.source and self.last_line == following.line

    def before_line(self, following: Token) -> bool:
        """Whether `following` begins a new line (Caddy: Dispenser.isNewLine).

        Not the opposite of `same_line`: a snippet's tokens may stand above the import's.
        """
        return self.source is not following.source or self.last_line < following.line

    @property
    def last_line(self) -> int:
        """The line that it ends on; a line end that a variable brought counts, as in Caddy."""
        return self.line + self.text.count("\n")

    def __repr__(self) -> str:
        return f"<Token {self.text!r} at {self.place}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class Directive(NamedTuple):
    """One occurrence of a directive in a server block."""

    name: str
    """With environment variables replaced, unlike the first token's text."""

    tokens: tuple[Token, ...]
    """In order, the name first and braces included."""

    @property
    def token(self) -> Token:
        """The token that names it."""
        return self.tokens[0]


class ServerBlock:
    """Keys (zones, with port and transport) and what is to be done for them."""

    __slots__ = ("directives", "empty_keys", "keys", "opening", "statements")

    def __init__(
        self,
        keys: tuple[Token, ...],
        statements: list[Directive],
        opening: Token | None = None,
        empty_keys: tuple[Token, ...] = (),
    ) -> None:
        """`statements` are the occurrences of directives in the order of the file."""
        self.keys = keys
        self.statements = statements
        self.opening = opening
        """The opening brace, or what stands in its place."""
        self.empty_keys = empty_keys
        """The words in front of the brace that came out empty, such as an unset variable."""
        self.directives: dict[str, list[Token]] = {}
        for name, tokens in statements:
            self.directives.setdefault(name, []).extend(tokens)

    def __repr__(self) -> str:
        return f"<ServerBlock {' '.join(key.text for key in self.keys)}>"


class Corefile(NamedTuple):
    """A Corefile with everything it imports."""

    blocks: list[ServerBlock]
    files: list[str]
    """The absolute path of every file that was read, the Corefile itself first."""

    sources: list[Source]
    """The texts, the Corefile itself first."""

    warnings: list[Diagnostic]
    """What is allowed, but probably not meant."""

    zoneless: list[ServerBlock]
    """Blocks without a key, which are not in `blocks`; CoreDNS leaves them out without a word."""

    @property
    def directives(self) -> set[str]:
        """The names of all directives."""
        return {name for block in (*self.blocks, *self.zoneless) for name in block.directives}

    @property
    def is_empty(self) -> bool:
        """Whether there is no server block at all, so that CoreDNS serves its default."""
        return not self.blocks and not self.zoneless
