"""`Controller`: the argument of a plugin's `setup`, with tokens, server block and error reporting.

`setup(controller)` runs once per server block that contains the directive. It parses the tokens,
raises `controller.error(...)` for errors (a diagnostic that points at the token), and adds handlers
or registers hooks. It must not open sockets or change anything on the host: `corepy -check` and
every reload rely on that. Code with side effects belongs in the hooks `before_listen` and
`serving`.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from corepy.corefile import (
    CorefileError,
    Diagnostic,
    Dispenser,
    Mistakes,
    parse_integer,
    suggest,
    zones_from_args,
    zones_of,
)
from corepy.corefile.redaction import is_about_secrets
from corepy.corefile.zones import is_address
from corepy.plugin.block_config import Root
from corepy.plugin.block_filter import BlockFilter, BlockFilters
from corepy.plugin.duration import parse_duration
from corepy.plugin.handler import Cacheability
from corepy.plugin.pattern import NamePattern, compile_pattern
from corepy.plugin.reading import file_version
from corepy.plugin.zone_matching import Fallthrough

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import re2

    from corepy.corefile import ServerBlock, Token
    from corepy.dns import Request
    from corepy.plugin.block_config import BlockConfig
    from corepy.plugin.handler import Handler
    from corepy.plugin.reading import FileVersion


T = TypeVar("T")


class Embedder(Protocol):
    """Sets up a directive as a part of another one."""

    def embed(self, outer: Controller, block: ServerBlock, text: str, token: Token) -> Handler:
        """Set up the directive in `text` for `outer`; errors are reported at `token`."""

    def knows(self, directive: str) -> bool:
        """Return whether a plugin with this name is installed."""


def _quoted(word: str) -> str:
    """Return a word as it is written in a Corefile."""
    is_plain = word and not any(char.isspace() or char in '"#{}' for char in word)
    return word if is_plain else '"' + word.replace('"', '\\"') + '"'


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


class Controller(Dispenser):
    """Sets up one directive of one server block; inherits the token cursor from `Dispenser`."""

    def __init__(
        self,
        directive: str,
        block: ServerBlock,
        config: BlockConfig,
        *,
        checking: bool = False,
        embedder: Embedder | None = None,
        shared: dict[type, Any] | None = None,
    ) -> None:
        """Set up `directive`; with `checking` the configuration will not be started.

        `embedder` sets up directives for `embed`. `shared` has the objects of `shared` by type.
        """
        super().__init__(block.directives[directive])
        self.directive = directive
        self.checking = checking
        self.config = config
        self.block_handlers = config.handlers
        """The handlers of all directives of the block, for use in hooks."""
        self.handlers: list[Handler] = []
        self.hooks: list[object] = []
        self.files: list[Path] = []
        self.file_versions: dict[Path, FileVersion | None] = {}
        """The versions of `files` when they were declared, None for files that did not exist."""
        self.warnings: list[Diagnostic] = []
        self.echoed_options: set[int] = set()
        self.labels_read: list[tuple[str, Token, bool]] = []
        self.labels_provided: dict[str, bool] = {}
        self._block = block
        self._embedder = embedder
        self._shared = {} if shared is None else shared
        self.makers: list[Callable[[], Handler]] = []
        """The arguments of `add_to_every_chain`."""

    def shared(self, kind: Callable[[], T]) -> T:
        """Return the object of class `kind` that all server blocks of this Corefile share.

        The first call creates it. So the directives of several blocks can be checked together.
        """
        if kind not in self._shared:
            self._shared[kind] = kind()  # type: ignore[index]  # a class
        return cast("T", self._shared[kind])  # type: ignore[index]  # a class

    def add_to_every_chain(self, make: Callable[[], Handler]) -> None:
        """Add a handler that `make` returns to the chain of each server block, this one included.

        Only observing handlers are above it, so neither caches nor denials apply to its replies.
        `make` is called once for each block, after all directives were set up. The handler must not
        be UNSAFE, and passes on as fast as possible the queries that it does not answer. Its hooks
        are not called.
        """
        self.makers.append(make)

    def add_handler(self, handler: Handler) -> None:
        """Append `handler` to this directive's handlers in the chain, and register its hooks."""
        self.handlers.append(handler)

    def register(self, plugin: object) -> None:
        """Register the hook implementations of `plugin` for the lifetime of this generation."""
        self.hooks.append(plugin)

    def embed(self, directive: str, lines: Sequence[Sequence[str]], token: Token) -> Handler:
        """Set up another directive as a part of this one, and return its handler.

        `lines` are the words after the directive's name, and those of each option; a brace alone is
        not a word. `token` is the one that errors and warnings are reported at. Call `begin_dns` or
        `serve_dns` of the result, whose replies are validated; there is no handler below it. Its
        hooks are called as those of this directive. Keep it in `Handler.embedded`, so that `corepy
        explain` shows it.

        Raises `CorefileError`, also if the plugin is not installed.
        """
        assert self._embedder is not None, "this controller cannot embed directives"
        first, *options = (" ".join(map(_quoted, line)) for line in lines)
        inner = "".join(f"{option}\n" for option in options)
        text = f"{directive} {first} {{\n{inner}}}" if inner else f"{directive} {first}"
        return self._embedder.embed(self, self._block, text, token)

    def configure(self, value: object) -> None:
        """Store `value` for the server block; `config.get(type(value))` returns it.

        Raise `CorefileError` if another directive has stored a different value of the same type.
        """
        kind = type(value)
        other = self.config.directive_of(kind)
        if other not in ("", self.directive) and self.config.get(kind) != value:
            raise self.error(
                f"{self.directive} conflicts with {other}: both set {kind.__name__}",
                self._block.directives[self.directive][0],
                f"remove {self.directive} or {other} from this server block",
            )
        self.config.set(value, self.directive)

    def add_filter(
        self,
        function: Callable[[Request], bool],
        *,
        view: str = "",
        cacheability: Cacheability = Cacheability.UNSAFE,
        is_about_question: bool = False,
    ) -> None:
        """Make the block answer only queries for which `function` returns True.

        The function runs in the event loop before the chain, so it must be fast, and must neither
        change the query nor answer it; `Request.context` has no zone and no view yet. An exception
        answers the query with SERVFAIL. `view` names the block in metrics. With `cacheability` SAFE
        the function depends only on the query's bytes, so the packet cache stays on. The default
        turns it off for all names whose queries may reach the function. With `is_about_question`,
        which needs SAFE, it depends only on name, type and class, so *cache* may store what a block
        makes of the server's own look-ups.

        Raises `CorefileError` if another filter of the block has a view.
        """
        before = self.config.get(BlockFilters)
        if view and before.view:
            other = next(it.name for it in before.filters if it.view)
            raise self.error(
                f"multiple views defined in server block: {before.view!r} by {other} and {view!r}",
                self._block.directives[self.directive][0],
                "a server block has one view; write a block of the same zone for each view",
            )
        added = BlockFilter(
            function, view, cacheability, self.directive, is_about_question=is_about_question
        )
        self.config.set(BlockFilters((*before.filters, added)), self.directive)

    def echo_option(self, code: int) -> None:
        """Repeat the EDNS option `code` of every query in its reply, at all listeners.

        A handler that understands the option calls it (CoreDNS: edns.SetSupportedOption). It
        applies until the configuration is replaced. An option that the reply has is not repeated.
        """
        self.echoed_options.add(code)

    def watch_file(self, path: Path) -> None:
        """Declare a file of the configuration, so that *reload* notices its changes.

        At a reload, caches above the directive are emptied if the content has changed.
        """
        self.files.append(path)
        self.file_versions[path] = file_version(path)

    def warn(self, message: str, token: Token | None = None, hint: str | None = None) -> None:
        """Report valid configuration that is probably a mistake; never fatal."""
        self.warnings.append(Diagnostic(message, token or self.token, hint, "warning"))

    def reads_label(self, label: str, token: Token | None = None, is_shown: bool = False) -> None:
        """Declare a label of metadata that the directive reads, at `token`.

        The start warns if no plugin can set it, because *metadata* or the plugin is missing. If
        the label `is_shown` only, as in a log line that all blocks share, the plugin may be in
        another block.
        """
        token = token or self.token
        assert token is not None
        self.labels_read.append((label, token, is_shown))

    def provides_labels(self, labels: Iterable[str], *, needs_metadata: bool = True) -> None:
        """Declare all labels of metadata that the directive sets, such as "geoip/city/name".

        The start warns about others with the same plugin's name. Without a declaration, all labels
        with its name are accepted. Labels need *metadata* in the block, unless the directive puts
        them into `Request.metadata` itself.
        """
        self.labels_provided.update(dict.fromkeys(labels, needs_metadata))

    def sibling(self, directive: str) -> Sequence[Token]:
        """Return the tokens of another directive of the same block, empty if it is not there."""
        return self._block.directives.get(directive, ())

    def zones_from(self, args: Sequence[Token]) -> list[str]:
        """Return the normalized zones in `args`, by default those of the block.

        CoreDNS: plugin.OriginsFromArgsOrServerBlock. A CIDR becomes its reverse zones. As in
        CoreDNS, an argument that is not a domain name is left out, but with a warning.
        """
        if not args:
            return zones_from_args([], self.config.zones)
        found: list[str] = []
        for arg in args:
            try:
                found += zones_of(arg.text)
            except ValueError as error:
                self.warn(f"{error}; it is ignored", arg)
            else:
                self._warn_if_unlikely(arg)
        return found

    def _warn_if_unlikely(self, token: Token) -> None:
        """Warn about an argument that is a valid zone, but most likely meant as something else."""
        text = token.text
        if any(warning.token is token for warning in self.warnings):
            return
        if is_address(text):
            self.warn(f"{text!r} is taken as a zone, not as an address", token)
        elif parse_integer(text) is not None or _is_duration(text):
            self.warn(f"{text!r} is taken as a zone, not as a number or a duration", token)
        elif "," in text or any(char.isspace() for char in text):
            hint = "separate zones with spaces; the value of a variable stays one word"
            self.warn(f"{text!r} is taken as one zone", token, hint)

    def zones_of(self, token: Token) -> list[str]:
        """Return the normalized zones in `token`, several for a network; raises `CorefileError`."""
        try:
            return zones_of(token.text)
        except ValueError as error:
            raise self.error(str(error), token) from None

    def fallthrough(self) -> Fallthrough:
        """Return the option `fallthrough`, whose zones are the remaining tokens on the line.

        Without zones it applies to all names, also outside the zones of the block, as in CoreDNS.
        """
        zones = self.remaining_tokens()
        return Fallthrough(self.zones_from(zones) if zones else ["."])

    def arguments(
        self, least: int = 0, most: int | None = None, hint: str | None = None
    ) -> list[Token]:
        """Return the remaining tokens on the line; raises `CorefileError` for a wrong number.

        The error has `hint`, such as an example of the line.
        """
        arguments = self.remaining_tokens()
        if len(arguments) < least:
            raise self.arg_error(hint=hint)
        if most is not None and len(arguments) > most:
            raise self.arg_error(arguments[most], hint)
        return arguments

    def argument(self, hint: str | None = None) -> Token:
        """Return the only argument on the line; raises as `arguments` for any other number."""
        return self.arguments(1, 1, hint)[0]

    def next_argument(self, hint: str | None = None) -> Token:
        """Advance to the next argument on the line and return it; raises as `arguments` if none.

        As in Caddy, any further word on an option's line is parsed as the next option.
        """
        if not self.next_arg():
            raise self.arg_error(hint=hint)
        assert self.token is not None
        return self.token

    def duration(self, token: Token) -> float:
        """Return the seconds of a duration in Go's notation, such as 1m30s; it may be negative.

        Raises `CorefileError`.
        """
        try:
            return parse_duration(token.text)
        except ValueError as error:
            hint = "a duration is a number with a unit, such as 500ms, 30s or 1h20m"
            raise self.error(str(error), token, hint) from None

    def integer(self, token: Token) -> int:
        """Return the integer in `token`; raises `CorefileError` (Go: strconv.Atoi)."""
        number = parse_integer(token.text)
        if number is None:
            hint = "write it without a unit, such as 30" if _is_duration(token.text) else None
            raise self.error(f"not a whole number: {token.text!r}", token, hint)
        return number

    def path(self, token: Token) -> Path:
        """Return the path in `token`; a relative one is in the folder that *root* sets."""
        return self.config.get(Root).folder / token.text

    def pattern(self, token: Token) -> re2._Regexp:
        """Return the compiled regular expression (RE2) in `token`; raises `CorefileError`."""
        with self._pattern_errors(token):
            return compile_pattern(token.text)

    def name_pattern(self, token: Token, *, ignores_case: bool = False) -> NamePattern:
        """Return the regular expression for domain names in `token`; raises `CorefileError`.

        Names are usually compared in lower case. `ignores_case` is for names of replies, which have
        any case.
        """
        with self._pattern_errors(token):
            return NamePattern(token.text, ignores_case=ignores_case)

    @contextmanager
    def _pattern_errors(self, token: Token) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            hint = "RE2 syntax, as in Go: no back references and no look-around"
            raise self.error(str(error), token, hint) from None

    def occurrences(self) -> Iterator[None]:
        """Iterate over the directive's occurrences in the block; the arguments are next.

        Raises `CorefileError` for an opening brace on a line of its own, which belongs to the
        directive, but not to one of its occurrences.
        """
        before = self.token
        while self.next():
            if self.val == "{" and before and self.token and before.before_line(self.token):
                hint = f"put it at the end of the line with {self.directive}"
                raise self.error("an opening brace cannot be on a line of its own", hint=hint)
            yield
            before = self.token

    def single(self, hint: str | None = None) -> Iterator[None]:
        """Iterate over the only occurrence; refuse a second one with `hint`.

        CoreDNS: plugin.ErrOnce.
        """
        occurrences = self.occurrences()
        yield from itertools.islice(occurrences, 1)
        for _ in occurrences:
            raise self.error("this plugin can only be used once per Server Block", hint=hint)

    def unknown_option(
        self, known: Sequence[str] | Mapping[str, object], token: Token | None = None
    ) -> CorefileError:
        """Return the error for an option that the directive does not have.

        If one of the `known` options is about secrets, this may be its misspelled name, and the
        words after it are hidden (`Token.hide`). Behind a hidden word, the option is hidden itself:
        it may be a part of a secret with spaces.
        """
        token = token or self.token
        text = token.text if token else ""
        if token and any(map(is_about_secrets, known)) and self._hide_line_from(token):
            return self.error(
                f"unknown option {text!r}", token, "put a value with spaces in quotes"
            )
        near = suggest(text, list(known))
        options = (
            f"known options: {', '.join(sorted(known))}"
            if known
            else "this directive has no options"
        )
        hint = f"did you mean {near!r}?" if near else options
        if self._embedder is not None and self._embedder.knows(text):
            hint = f"{text} is a plugin: to end the block of {self.directive} before it, add a '}}'"
        return self.error(f"unknown option {text!r}", token, hint)

    def _hide_line_from(self, option: Token) -> bool:
        """Hide the words after an unknown option; return whether it is hidden itself."""
        words = [it for it in self.line_tokens() if it.text not in ("{", "}")]
        before = list(itertools.takewhile(lambda it: it is not option, words))
        on_line = option.source.hidden_by_line.get(option.line, ())
        hidden = {(it.line, it.column) for it in on_line}
        is_behind = any((it.line, it.column) in hidden for it in before)
        for word in words[len(before) + (not is_behind) :]:
            word.hide()
        return is_behind

    def options(self, table: Mapping[str, Callable[[], None]]) -> None:
        """Parse the block of the current directive, calling `table[option]` for each option line.

        The callable finds its option in `token` and reads the arguments with `remaining_args`. An
        option that is not in the table is an error. The errors of all options are raised together
        at the end of the block.
        """
        mistakes = Mistakes()
        while self.next_block():
            with self.statement(mistakes):
                action = table.get(self.val)
                if action is None:
                    raise self.unknown_option(table)
                action()
        mistakes.settle()
