"""Yields the tokens of a Corefile in the order in which Caddy sees them, with imports expanded.

`TokenStream` is Caddy's token list with its cursor, reduced to the three tokens that the parser
needs. Pending tokens are on a stack, so that the cost of an import is linear in its tokens (Caddy
copies the whole list). `Importer` turns an import's argument into tokens.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from corepy.corefile import files
from corepy.corefile.diagnostics import CorefileError, Diagnostic, quote
from corepy.corefile.encoding import problem_of
from corepy.corefile.lexer import source_of, tokenize
from corepy.corefile.model import Import
from corepy.corefile.suggest import suggest, suggest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.corefile.model import Source, Token

MAX_SNIPPET_IMPORTS = 10_000
"""Maximum number of snippet imports in one Corefile (Caddy: maxSnippetExpansions)."""

MAX_FILE_IMPORTS = 100_000
"""Maximum number of file imports in one Corefile (Caddy: maxFileExpansions)."""

MAX_TOKENS = 500_000
"""Maximum number of tokens with all imports. Caddy has no such limit and runs out of memory."""

# A Corefile may import itself a few times and still terminate, if the import resolves differently
# each time (inside a snippet's definition it is not followed). None repeats an import this often.
_CYCLE_DEPTH = 16
_CYCLE_REPEATS = 8


class FatalError(CorefileError):
    """An error after which the rest of the Corefile cannot be parsed."""


class NotFoundError(CorefileError):
    """An import names neither a snippet nor a file."""


class TokenStream:
    """A cursor over tokens: `previous`, `current`, and the pending ones."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        """Start before the first of `tokens`."""
        self.previous: Token | None = None
        self.current: Token | None = None
        self._coming = list(islice(tokens, MAX_TOKENS + 1))
        self._taken = len(self._coming)
        if self._taken > MAX_TOKENS:
            raise FatalError(_too_many(self._coming[-1]))
        self._coming.reverse()

    @property
    def next(self) -> Token | None:
        """The token after the current one."""
        return self._coming[-1] if self._coming else None

    def advance(self) -> bool:
        """Advance to the next token; at the last token, stay there and return False."""
        if not self._coming:
            return False
        self.previous, self.current = self.current, self._coming.pop()
        return True

    def back(self) -> None:
        """Undo `advance`. Only `advance` may follow."""
        assert self.current is not None
        self._coming.append(self.current)
        self.current, self.previous = self.previous, None

    def replace_text(self, text: str) -> Token:
        """Replace the text of the current token, and return the token."""
        assert self.current is not None
        if text != self.current.text:
            self.current = self.current.with_text(text)
        return self.current

    def rewind_to(self, before: Token | None) -> None:
        """Make `before` the current token again; drop the tokens read since."""
        self.current, self.previous = before, None

    def insert(self, tokens: Sequence[Token]) -> None:
        """Insert `tokens` after the current one. Raises `FatalError` at more than `MAX_TOKENS`."""
        self._taken += len(tokens)
        if self._taken > MAX_TOKENS:
            raise FatalError(_too_many(tokens[-1]))
        self._coming.extend(reversed(tokens))

    def starts_line(self) -> bool:
        """Return whether the current token begins a line (Caddy: Dispenser.isNewLine)."""
        if self.current is None or self.previous is None:
            return True
        return self.previous.before_line(self.current)

    def next_is_argument(self) -> bool:
        """Return whether the next token is on the current one's line (Caddy: Dispenser.NextArg)."""
        return bool(self.current and self.next and self.current.same_line(self.next))


class Importer:
    """Resolves the imports of one Corefile to snippets and files."""

    def __init__(self, main: Source, path: str | None) -> None:
        """Start with the Corefile's text `main`, and its absolute path if it is a file."""
        self.snippets: dict[str, list[Token]] = {}
        self.warnings: list[Diagnostic] = []
        self.sources = [main]
        self.files = [path] if path is not None else []
        self._definitions: dict[str, Token] | None = None
        self._snippet_imports = 0
        self._file_imports = 0
        self._lexed: dict[str, list[Token]] = {}
        self._found: dict[str, list[str]] = {}

    def tokens(self, name: str, token: Token) -> list[Token]:
        """Return the tokens that the import of `name` inserts; `token` is the import's argument.

        Raises `CorefileError` for an import that fails, and `FatalError` for one that never ends.
        """
        if name in self.snippets:
            self._snippet_imports = self._count(self._snippet_imports, MAX_SNIPPET_IMPORTS, token)
            return self._brought(f"({name})", token, self.snippets[name])
        self._file_imports = self._count(self._file_imports, MAX_FILE_IMPORTS, token)
        brought: list[Token] = []
        for path in self._paths(name, token):
            brought += self._brought(path, token, self._file(path, token))
        return brought

    def _count(self, done: int, most: int, token: Token) -> int:
        if done >= most:
            raise FatalError(
                Diagnostic(f"more than {most} imports: probably an endless import", token)
            )
        return done + 1

    def _brought(self, name: str, token: Token, body: list[Token]) -> list[Token]:
        origin = Import(name, token)
        _refuse_cycle(origin)
        return [each.imported_by(origin) for each in body]

    def _paths(self, name: str, token: Token) -> list[str]:
        """Return the paths that an import of files matches."""
        try:
            pattern = files.absolute(name, token.source.name)
        except OSError as error:
            raise _mistake(
                f"cannot determine the current folder: {error.strerror}", token
            ) from None
        if pattern not in self._found:
            self._found[pattern] = self._search(name, pattern, token)
        return self._found[pattern]

    def _search(self, name: str, pattern: str, token: Token) -> list[str]:
        if files.has_too_many_wildcards(pattern):
            message = f"too many wildcards in {quote(pattern)}"
            raise _mistake(message, token, "use at most one '*' and one '?', and no [...]")
        try:
            found = files.matches(pattern)
        except files.BadPatternError:
            raise _mistake(f"bad import pattern {quote(name)}", token) from None
        if found:
            return found
        if not files.is_pattern(pattern):
            if "/" in name:
                message = f"cannot import {quote(pattern)}: no such file"
            else:
                message = f"cannot import {quote(name)}: no such snippet or file"
            raise NotFoundError(Diagnostic(message, token, self._near(name, pattern)))
        message = f"no file matches the import pattern {quote(name)}"
        self.warnings.append(Diagnostic(message, token, severity="warning"))
        return []

    def _near(self, name: str, pattern: str) -> str | None:
        """Return the hint for an import that matches neither a snippet nor a file."""
        if self._definitions is None:
            self._definitions = {
                token.text: token for token in tokenize(self.sources[0]) if token.text[:1] == "("
            }
        definition = self._definitions.get(f"({name})")
        if definition is not None:
            return f"the snippet is defined at {definition.location}; move it above the import"
        near = suggest(name, self.snippets)
        if near is None:
            folder = os.path.dirname(pattern)
            near = suggest_file(pattern)
            if near is not None:
                near = os.path.join(os.path.dirname(name), os.path.basename(near))
            elif not files.is_folder(folder):
                return f"the folder {quote(folder)} does not exist"
        return near and f"did you mean {quote(near)}?"

    def _file(self, path: str, token: Token) -> list[Token]:
        """Return the tokens of a file; each file is read once, even if imported several times."""
        path = files.clean(path)
        if path not in self._lexed:
            try:
                content = files.read_import(path)
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise _mistake(f"cannot import {quote(path)}: {reason}", token) from None
            problem = problem_of(content)
            if problem is not None:
                raise _mistake(
                    f"cannot import {quote(path)}: {problem.message}", token, problem.hint
                )
            source = source_of(path, content)
            self._lexed[path] = list(islice(tokenize(source), MAX_TOKENS + 1))
            self.sources.append(source)
            self.files.append(path)
        return self._lexed[path]


class NoImports(Importer):
    """An importer that replaces every import by nothing, without resolving it."""

    def tokens(self, name: str, token: Token) -> list[Token]:
        """Return an empty list."""
        return []


def _mistake(message: str, token: Token, hint: str | None = None) -> CorefileError:
    return CorefileError(Diagnostic(message, token, hint))


def _too_many(token: Token) -> Diagnostic:
    return Diagnostic(f"more than {MAX_TOKENS} words, imports included", token)


def _refuse_cycle(origin: Import) -> None:
    """Raise `FatalError` if an import imports itself repeatedly.

    Checked only at depths that are powers of two, so that a long chain does not cost quadratic
    time.
    """
    depth = origin.depth
    if depth < _CYCLE_DEPTH or depth & (depth - 1):
        return
    site = _site(origin)
    names, repeats = [origin.name], 0
    above = origin.token.origin
    while above is not None and repeats < _CYCLE_REPEATS:
        if repeats == 0:
            names.append(above.name)
        repeats += _site(above) == site
        above = above.token.origin
    if repeats == _CYCLE_REPEATS:
        message = f"import cycle: {' imports '.join(reversed(names))}"
        raise FatalError(Diagnostic(message, _outermost(origin, site)))


def _site(origin: Import) -> tuple[Source, int, int]:
    return origin.token.source, origin.token.line, origin.token.column


def _outermost(origin: Import, site: tuple[Source, int, int]) -> Token:
    """Return the outermost import of a cycle, so that the chain shown is not the whole cycle."""
    first, above = origin.token, origin.token.origin
    while above is not None:
        if _site(above) == site:
            first = above.token
        above = above.token.origin
    return first
