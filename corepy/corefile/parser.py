"""Parses tokens into server blocks (Caddy: caddyfile/parse.go).

It accepts exactly the Corefiles that Caddy accepts, with the same meaning. Its error messages are
better: each has a position, and the parser continues after an error if the following text does not
depend on it. Errors that only follow from an earlier one are not reported; in doubt neither.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping

from corepy.corefile import files
from corepy.corefile.diagnostics import CorefileError, Diagnostic, quote
from corepy.corefile.encoding import refuse_other_content
from corepy.corefile.environment import EndlessReplacementError, Environment, NoVariables
from corepy.corefile.expansion import FatalError, Importer, NoImports, NotFoundError, TokenStream
from corepy.corefile.generated import GeneratedCorefile
from corepy.corefile.keys import key_warnings
from corepy.corefile.lexer import source_of, tokenize
from corepy.corefile.model import Directive, ServerBlock, Source, Token
from corepy.corefile.parsed import Corefile
from corepy.corefile.zones import SCHEMES


def parse(
    text: str | bytes,
    filename: str = "Corefile",
    env: Mapping[str, str] | None = None,
    schemes: Collection[str] = SCHEMES,
) -> Corefile:
    """Return the parsed `text`. Raises `CorefileError` with every error that could be found.

    Imports are relative to the folder of `filename`. Variables come from `env`, by default the
    process's environment. A key with another scheme than one of `schemes` gets a warning. Names of
    directives are not checked.
    """
    refuse_other_content(filename, text)
    main = source_of(filename, text)
    return _Parser(main, Importer(main, None), _environment(env), schemes).parse()


def parse_generated(made: GeneratedCorefile, schemes: Collection[str] = SCHEMES) -> Corefile:
    """Return the parsed text that a program made; raises `CorefileError` as `parse`.

    Messages name the origins of its lines. Imports are relative to the folder of its name.
    """
    main = source_of(made.name, made.text)
    main.origins = made.origins
    return _Parser(main, Importer(main, None), _environment(None), schemes).parse()


def load(
    path: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    schemes: Collection[str] = SCHEMES,
) -> Corefile:
    """Read and parse a Corefile. Raises `OSError` if it cannot be read, else as `parse`."""
    name, content = os.fspath(path), files.read_corefile(path)
    refuse_other_content(name, content)
    main = source_of(name, content)
    importer = Importer(main, os.path.abspath(name))
    return _Parser(main, importer, _environment(env), schemes).parse()


def outline(source: Source) -> Corefile:
    """Return the parsed text without its imports and with its variables unreplaced.

    Raises `CorefileError` as `parse`.
    """
    return _Parser(source, NoImports(source, None), NoVariables()).parse()


def _environment(env: Mapping[str, str] | None) -> Environment:
    return Environment(os.environ if env is None else env)


_COMMA = "a zone that ends in a comma must be followed by another zone"
_MOST = 50  # errors or warnings in one report; more would not be read
_OPEN_QUOTE = Diagnostic("the quote is never closed", severity="warning")


class _StopError(Exception):
    """Parsing cannot continue; the error has been recorded."""


class _Parser:
    """One pass over a Corefile: `_stream` is the position, the rest the result so far."""

    def __init__(
        self,
        main: Source,
        importer: Importer,
        environment: Environment,
        schemes: Collection[str] = SCHEMES,
    ) -> None:
        self._main = main
        self._schemes = schemes
        self._environment = environment
        self._importer = importer
        self._blocks: list[ServerBlock] = []
        self._zoneless: list[ServerBlock] = []
        self._definitions: dict[str, Token] = {}
        self._mistakes: list[Diagnostic] = []
        self._warnings = self._importer.warnings
        self._structure_in_doubt = False
        """Whether braces do not match because of an error that was already reported."""
        self._definitions_missing = False
        """Whether a top-level import failed, which may have defined snippets."""

    def parse(self) -> Corefile:
        try:
            self._stream = TokenStream(tokenize(self._main))
            while self._stream.advance():
                self._server_block()
        except FatalError as error:
            self._mistakes += error.diagnostics
        except _StopError:
            pass
        sources = self._importer.sources
        for source in sources:
            source.variables = self._environment.variables
        likely_mistakes = [
            _OPEN_QUOTE._replace(token=source.open_quote) for source in sources if source.open_quote
        ]
        if self._mistakes:
            raise CorefileError(*likely_mistakes, *self._mistakes)
        warnings = (self._warnings + likely_mistakes)[:_MOST]
        return Corefile(self._blocks, self._importer.files, sources, warnings, self._zoneless)

    # -- a server block or a snippet

    def _server_block(self) -> None:
        keys, empty, at_end = self._keys()
        if len(self._warnings) < _MOST:
            self._warnings += key_warnings(keys, self._schemes)
        opening, statements = self._stream.current, list[Directive]()
        if not at_end:
            name = _snippet_name(keys)
            if name is not None:
                self._snippet(name, keys[0])
                return
            self._block_contents(keys, statements)
        if keys:
            for token in empty:
                self._warn_of_empty("this zone is empty and is ignored", token)
            self._blocks.append(ServerBlock(tuple(keys), statements, opening, tuple(empty)))
        else:
            has_brace = opening is not None and opening.text == "{"
            place = opening if has_brace else next(iter(empty), None)
            if place is not None:
                self._zoneless.append(ServerBlock((), statements, place, tuple(empty)))

    def _keys(self) -> tuple[list[Token], list[Token], bool]:
        """Parse the keys up to a brace or the end of the line.

        Return the keys with a text, the empty ones, and whether the file ends here. After a key
        that ends in a comma, the keys continue on the next line.
        """
        keys, empty = list[Token](), list[Token]()
        expecting_another = False
        while True:
            token = self._current()
            text = self._replace(token)
            if text == "import" and self._stream.starts_line():
                self._import(at_top=True)
                if self._stream.advance():
                    continue
                if expecting_another:
                    raise self._stop(
                        "the file ends where another zone is expected", keys[-1], _COMMA
                    )
                return keys, empty, True
            if text == "{":
                if expecting_another:
                    self._report("expecting another zone, but the block begins", token, _COMMA)
                return keys, empty, False
            if not text:
                empty.append(token)
            else:
                expecting_another = text.endswith(",")
                keys.append(token.with_text(text[:-1] if expecting_another else text))
            if not self._stream.advance():
                if expecting_another:
                    raise self._stop("the file ends where another zone is expected", token, _COMMA)
                return keys, empty, True
            if not expecting_another and self._stream.starts_line():
                return keys, empty, False

    def _snippet(self, name: str, key: Token) -> None:
        """Store a snippet's tokens for later imports."""
        opening = self._current()
        if opening.text != "{":
            hint = f"put a '{{' after ({name})"
            raise self._stop(f"unexpected {quote(opening.text)}, expecting '{{'", opening, hint)
        body = self._snippet_body(opening)
        if name in self._definitions:
            first = ("it is defined", self._definitions[name])
            self._report(f"snippet {quote(name)} is defined twice", key, related=(first,))
            return
        self._definitions[name] = key
        itself = self._self_import(name, body)
        if itself is not None:
            self._report(f"import cycle: snippet {quote(name)} imports itself", itself)
            body = []
        self._importer.snippets[name] = body

    def _snippet_body(self, opening: Token) -> list[Token]:
        body: list[Token] = []
        open_braces = [opening]
        while self._stream.advance():
            token = self._current()
            if token.text == "{":
                open_braces.append(token)
            elif token.text == "}":
                open_braces.pop()
                if not open_braces:
                    return body
            body.append(token)
        raise self._unclosed(open_braces[-1])

    def _self_import(self, name: str, body: list[Token]) -> Token | None:
        """Return the argument of a snippet's import of itself, if any (Caddy: parse.go, begin)."""
        previous: Token | None = None
        for token, argument in itertools.pairwise(body):
            starts_line = previous is None or not _beside(previous, token)
            if token.text == "import" and starts_line and self._replace(argument) == name:
                return argument
            previous = token
        return None

    # -- directives

    def _block_contents(self, keys: list[Token], statements: list[Directive]) -> None:
        """Parse directives up to the closing brace, or without an opening one to the file's end."""
        opening = self._current()
        in_braces = opening.text == "{"
        if not in_braces:
            self._stream.back()
        while self._stream.advance():
            token = self._current()
            if token.text == "}":
                if not in_braces and not any(key.text.endswith("{") for key in keys):
                    hint = f"put a '{{' after {keys[-1].text}" if keys and statements else None
                    self._warn("this brace closes a block without an opening brace", token, hint)
                return
            if token.text == "import":
                self._import()
            elif not self._directive(statements):
                return
        if in_braces:
            # Caddy checks only that the last token is a brace, which may be one that ends a
            # directive.
            if self._current().text != "}":
                raise self._unclosed(opening)
            self._warn("the block is never closed: its last brace closes a directive", opening)

    def _directive(self, statements: list[Directive]) -> bool:
        """Parse a directive to the end of its line or block; return whether its block continues."""
        stream = self._stream
        name = self._replace(self._current())
        tokens, open_braces = [self._current()], []
        goes_on = True
        while goes_on and stream.advance():
            token = self._current()
            text = token.text
            if text == "{":
                open_braces.append(token)
            elif not open_braces and stream.starts_line():
                stream.back()
                break
            elif text == "}":
                if not open_braces:
                    goes_on = self._stray_brace(token)
                    continue
                open_braces.pop()
            elif text == "import" and stream.starts_line():
                self._import()
                continue
            if "{" in text:
                token = stream.replace_text(self._replace(token))
                if not token.text:
                    self._warn_of_empty("this word is empty", token)
            tokens.append(token)
        if open_braces:
            raise self._unclosed(open_braces[-1])
        statements.append(Directive(name, tuple(tokens)))
        return goes_on

    def _stray_brace(self, token: Token) -> bool:
        """Report a closing brace on a directive's line; return whether the block continues.

        The brace was probably meant to end the server block, unless another closing brace follows.
        """
        hint = "put the closing brace on a line of its own"
        self._report("unexpected '}' because no matching opening brace", token, hint)
        self._structure_in_doubt = True
        following = self._stream.next
        return following is not None and following.text == "}"

    # -- imports and variables

    def _import(self, *, at_top: bool = False) -> None:
        """Replace the current `import` by its tokens: the first of them becomes the next token."""
        before = self._stream.previous
        try:
            argument = self._import_argument()
            tokens = self._imported(self._replace(argument), argument)
        except FatalError:
            raise
        except CorefileError as error:
            if not (self._definitions_missing and isinstance(error, NotFoundError)):
                self._note(*error.diagnostics)
            self._definitions_missing |= at_top
            self._skip_arguments()
            tokens = []
        self._stream.rewind_to(before)
        self._stream.insert(tokens)

    def _import_argument(self) -> Token:
        if not self._stream.next_is_argument():
            message = "import needs an argument: a file, a pattern or a snippet"
            raise CorefileError(Diagnostic(message, self._current()))
        self._stream.advance()
        return self._current()

    def _imported(self, name: str, argument: Token) -> list[Token]:
        if not name:
            message = f"import requires a non-empty path, and {quote(argument.text)} is empty"
            raise CorefileError(Diagnostic(message, argument))
        following = self._stream.next
        if following is not None and self._stream.next_is_argument():
            message = "import takes only one argument (a file, a pattern or a snippet)"
            raise CorefileError(Diagnostic(message, following))
        return self._importer.tokens(name, argument)

    def _skip_arguments(self) -> None:
        """Skip the rest of an invalid import up to a brace, which the structure depends on."""
        while self._stream.next_is_argument():
            if self._stream.next is not None and self._stream.next.text in ("{", "}"):
                break
            self._stream.advance()

    def _replace(self, token: Token) -> str:
        try:
            return self._environment.replace(token.text)
        except EndlessReplacementError:
            message = "the value of this variable contains the variable itself"
            raise FatalError(Diagnostic(message, token)) from None

    # -- helpers

    def _current(self) -> Token:
        token = self._stream.current
        assert token is not None
        return token

    def _warn(self, message: str, token: Token, hint: str | None = None) -> None:
        self._warnings.append(Diagnostic(message, token, hint, "warning"))

    def _warn_of_empty(self, message: str, token: Token) -> None:
        self._warn(message, token, self._environment.variables.missing_values(token.raw))

    def _note(self, *mistakes: Diagnostic) -> None:
        self._mistakes += mistakes
        if len(self._mistakes) >= _MOST:
            raise _StopError

    def _report(
        self,
        message: str,
        token: Token,
        hint: str | None = None,
        related: tuple[tuple[str, Token], ...] = (),
    ) -> None:
        self._note(Diagnostic(message, token, hint, related=related))

    def _stop(self, message: str, token: Token, hint: str | None = None) -> _StopError:
        """Report an error after which parsing cannot continue; return the exception to raise."""
        if not self._structure_in_doubt:
            self._report(message, token, hint)
        return _StopError()

    def _unclosed(self, opening: Token) -> _StopError:
        return self._stop("unexpected end of file: this brace is never closed", opening)


def _snippet_name(keys: list[Token]) -> str | None:
    """Return the name of the snippet that the keys define: one key, in parentheses."""
    if len(keys) == 1 and keys[0].text.startswith("(") and keys[0].text.endswith(")"):
        return keys[0].text[1:-1]
    return None


def _beside(left: Token, right: Token) -> bool:
    return left.source is right.source and left.line == right.line
