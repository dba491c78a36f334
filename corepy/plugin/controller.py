"""What a plugin's `setup` is given: its tokens, its server block, and the means to report mistakes.

`setup(controller)` runs once per server block that names the directive. It reads the tokens,
refuses what is wrong by raising `controller.error(...)` (a diagnostic that points at the token),
and adds handlers or registers hooks. It opens no socket and changes nothing on the host: `corepy
-check` and every reload rely on that. What touches the world belongs into the hooks `before_listen`
and `serving`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from corepy.corefile.zones import is_address
from corepy.plugin.duration import parse_duration
from corepy.plugin.pattern import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import re2

    from corepy.corefile import ServerBlock, Token, ZoneAddress
    from corepy.plugin.handler import Handler


@dataclass(slots=True)
class BlockConfig:
    """What the server knows and plugins may change of one server block (CoreDNS:
    dnsserver.Config).
    """

    keys: Sequence[ZoneAddress]
    """The zones the block serves, each with its transport and port; the first stands for the
    block.
    """

    listen_hosts: list[str] = field(default_factory=lambda: [""])
    """Addresses to listen on; "" is the wildcard. Set by *bind*."""

    sockets: int = 1
    """Sockets of each kind at each of its addresses, each with a process of its own; of blocks that
    share an address, the first decides. Set by *multisocket*.
    """

    debug: bool = False
    """Let a plugin's exception show its traceback in the log."""

    read_timeout: float = 3.0
    """Seconds a TCP client has for its first query (core/dnsserver/server.go)."""

    idle_timeout: float = 10.0
    """Seconds a TCP connection may be idle between queries."""

    write_timeout: float = 5.0
    """Seconds a TCP client may take to accept a reply."""

    max_tcp_queries: int | None = None
    """Queries that one TCP connection may ask before it is closed; None is any number."""

    @property
    def zones(self) -> list[str]:
        """The zones of the block, fully qualified and in lower case."""
        return [key.zone for key in self.keys]

    @property
    def port(self) -> int:
        """The port of the block's first key."""
        return self.keys[0].port

    @property
    def transport(self) -> str:
        """The transport of the block's first key, such as "dns" or "tls"."""
        return self.keys[0].transport


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


class Controller(Dispenser):
    """One directive of one server block, being set up. See `Dispenser` for walking the tokens."""

    def __init__(
        self, directive: str, block: ServerBlock, config: BlockConfig, *, checking: bool = False
    ) -> None:
        """Set up `directive`; with `checking` the configuration will not be started."""
        super().__init__(block.directives[directive])
        self.directive = directive
        self.checking = checking
        self.config = config
        self.handlers: list[Handler] = []
        self.hooks: list[object] = []
        self.files: list[Path] = []
        self.warnings: list[Diagnostic] = []
        self._block = block

    def add_handler(self, handler: Handler) -> None:
        """Put `handler` into the block's chain, below those added before it; its hooks are
        registered as well.
        """
        self.handlers.append(handler)

    def register(self, plugin: object) -> None:
        """Let the hook implementations of `plugin` take part in the life of this generation."""
        self.hooks.append(plugin)

    def watch_file(self, path: Path) -> None:
        """Say that the configuration depends on this file, so that a reload notices when it
        changes.
        """
        self.files.append(path)

    def warn(self, message: str, token: Token | None = None, hint: str | None = None) -> None:
        """Report something that is allowed but probably not meant; printed with its place, never
        fatal.
        """
        self.warnings.append(Diagnostic(message, token or self.token, hint, "warning"))

    def sibling(self, directive: str) -> Sequence[Token]:
        """Return the tokens of another directive of the same block, empty if it is not there."""
        return self._block.directives.get(directive, ())

    def zones_from(self, args: Sequence[Token]) -> list[str]:
        """Return the zones that `args` name, or those of the block when there are none, normalised.

        CoreDNS: plugin.OriginsFromArgsOrServerBlock; a CIDR becomes its reverse zones. An argument
        that is no domain name is left out as there, with a warning.
        """
        if not args:
            return zones_from_args([], self.config.zones)
        found: list[str] = []
        for arg in args:
            try:
                found += zones_of(arg.text)
            except ValueError as error:
                self.warn(f"{error}, so it is left out", arg)
            else:
                self._doubt(arg)
        return found

    def _doubt(self, token: Token) -> None:
        """Warn of an argument that is a zone for CoreDNS, and was most likely meant otherwise."""
        text = token.text
        if any(warning.token is token for warning in self.warnings):
            return
        if is_address(text):
            self.warn(f"{text!r} is taken as a zone, not as an address", token)
        elif parse_integer(text) is not None or _is_duration(text):
            self.warn(f"{text!r} is taken as a zone, not as a number or a duration", token)
        elif "," in text or any(char.isspace() for char in text):
            hint = "zones are words of their own, with spaces between them; a variable is one word"
            self.warn(f"{text!r} is taken as one zone", token, hint)

    def zones_of(self, token: Token) -> list[str]:
        """Return the zones that `token` names, normalised: several for some networks; raises
        `CorefileError`.
        """
        try:
            return zones_of(token.text)
        except ValueError as error:
            raise self.error(str(error), token) from None

    def arguments(self, least: int = 0, most: int | None = None) -> list[Token]:
        """Return the rest of the line; raises `CorefileError` if it is shorter or longer."""
        arguments = self.remaining_tokens()
        if len(arguments) < least:
            raise self.arg_error()
        if most is not None and len(arguments) > most:
            raise self.arg_error(arguments[most])
        return arguments

    def argument(self) -> Token:
        """Return the one argument that the line must have; raises `CorefileError`."""
        return self.arguments(1, 1)[0]

    def next_argument(self) -> Token:
        """Go to the next argument of the line and return it; raises `CorefileError` at its end.

        As in Caddy, what else stands on the line of an option is taken for the next option.
        """
        if not self.next_arg():
            raise self.arg_error()
        assert self.token is not None
        return self.token

    def duration(self, token: Token) -> float:
        """Return the seconds that `token` means, in Go's notation such as 1m30s; they may be
        negative. Raises `CorefileError`.
        """
        try:
            return parse_duration(token.text)
        except ValueError as error:
            hint = "a duration is a number with a unit, such as 500ms, 30s or 1h20m"
            raise self.error(str(error), token, hint) from None

    def integer(self, token: Token) -> int:
        """Return the whole number that `token` is; raises `CorefileError` (Go: strconv.Atoi)."""
        number = parse_integer(token.text)
        if number is None:
            raise self.error(f"not a whole number: {token.text!r}", token)
        return number

    def pattern(self, token: Token) -> re2._Regexp:
        """Return the regular expression (RE2) that `token` is; raises `CorefileError`."""
        try:
            return compile_pattern(token.text)
        except ValueError as error:
            hint = "RE2 syntax, as in Go: no back references and no look-around"
            raise self.error(str(error), token, hint) from None

    def occurrences(self) -> Iterator[None]:
        """Stop at each occurrence of the directive in the block; the arguments come next."""
        while self.next():
            yield

    def single(self) -> Iterator[None]:
        """Stop at the directive, and refuse a second one in the block (CoreDNS: plugin.ErrOnce)."""
        yield from itertools.islice(self.occurrences(), 1)
        if self.next():
            raise self.error("this plugin can only be used once per Server Block")

    def unknown_option(
        self, known: Sequence[str] | Mapping[str, object], token: Token | None = None
    ) -> CorefileError:
        """Return the error for an option that the directive does not have."""
        token = token or self.token
        text = token.text if token else ""
        near = suggest(text, list(known))
        options = f"known options: {', '.join(sorted(known))}" if known else "it has no options"
        hint = f"did you mean {near!r}?" if near else options
        return self.error(f"unknown option {text!r}", token, hint)

    def options(self, table: Mapping[str, Callable[[], None]]) -> None:
        """Walk the block behind the current directive, calling `table[option]` at each option line.

        The callable finds its option at `token` and takes the arguments with `remaining_args`. An
        option that is not in the table is an error. The mistakes of all options are raised
        together, at the end of the block.
        """
        mistakes = Mistakes()
        while self.next_block():
            with self.statement(mistakes):
                action = table.get(self.val)
                if action is None:
                    raise self.unknown_option(table)
                action()
        mistakes.settle()
