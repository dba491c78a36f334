"""Parses `forward` lines and creates their TLS contexts.

CoreDNS: plugin/forward/setup.go, plugin/pkg/tls/tls.go. `settings` parses the options of a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns import names
from corepy.plugin import Mistakes, suggest_file
from corepy_forward.contexts import import_client, make_context
from corepy_forward.handler import Forward
from corepy_forward.resolve import read_resolv_conf
from corepy_forward.settings import MAX_TARGETS, Options, Settings
from corepy_forward.targets import (
    MissingFileError,
    as_ip,
    flaw,
    is_address_or_file,
    parse_target,
    without_repeats,
)
from corepy_forward.usable import (
    named_addresses,
    own_among,
    refuse_own_addresses,
    skipped_own,
)

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.plugin import Controller, CorefileError, Token
    from corepy_forward.targets import ToAddress

_NAMED_ONCE = ("tls", "quic", "https3")
"""Transports whose upstreams cannot have two server names; CoreDNS ignores one with https."""

_LIBRARIES = {"https": "h2", "quic": "'corepy-dns[forward]'", "https3": "'corepy-dns[forward]'"}
"""The arguments of `pip install` for transports that need a library."""


def setup(controller: Controller) -> None:
    """Add one handler for each `forward` line, in order."""
    mistakes = Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            controller.add_handler(_handler(controller, _Line(controller).read()))
    mistakes.settle()
    controller.provides_labels(["forward/upstream"])
    for handler in controller.handlers[:-1]:
        assert isinstance(handler, Forward)
        handler.is_last = False


def _handler(controller: Controller, settings: Settings) -> Forward:
    """Return the handler of a line, which validates if the settings want it."""
    with_metadata = bool(controller.sibling("metadata"))  # so plugins can read `forward/upstream`
    if settings.trust_anchors is None:
        return Forward(settings, controller.config, with_metadata)
    from corepy_forward.validation.handler import ValidatingForward

    handler = ValidatingForward(
        settings, controller.config, with_metadata, anchors=settings.trust_anchors
    )
    zone = names.from_text(settings.zone)
    settings.trust_anchors.service.add_line(zone, handler.chain.refresh_anchor)
    return handler


class _Line:
    """Parses one `forward` line into `Settings`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._settings = Settings()

    def read(self) -> Settings:
        c, settings, mistakes = self._c, self._settings, Mistakes()
        source, *targets = c.arguments(1)
        if not targets:
            raise self._no_target(source)
        with mistakes:
            c.options(Options(c, settings).table())
        with mistakes:
            self._from(source)
        for token in targets:
            with mistakes:
                settings.entries.append(self._entry(token))
        mistakes.settle()
        if settings.max_age and settings.max_age < settings.expire:
            raise c.error(
                f"max_age ({settings.max_age:g}s) must not be less than expire"
                f" ({settings.expire:g}s)",
                targets[0],
            )
        self._to(targets)
        self._check_tls(targets)
        self._check_validation()
        return settings

    def _check_validation(self) -> None:
        """Create the trust anchors, if the line has `dnssec validate`."""
        c, settings = self._c, self._settings.validation
        if settings.token is None:
            for token in settings.dependent:
                problem = f"{token.text!r}: trust anchors have no effect without validation"
                raise c.error(problem, token, "add the option: dnssec validate")
            return
        try:
            from corepy_forward.validation import handler as handler
            from corepy_forward.validation.anchor_setup import make_anchors
        except ImportError as error:
            package = (error.name or str(error)).partition(".")[0]
            problem = f"dnssec validate needs {package}, which is not installed"
            raise c.error(problem, settings.token, "pip install 'corepy-dns[forward]'") from None
        self._settings.trust_anchors = make_anchors(c, settings)

    def _no_target(self, source: Token) -> CorefileError:
        """Return the error for a line with one argument, with a hint if that is an upstream."""
        if not is_address_or_file(source.text):
            return self._c.arg_error(source)
        hint = f"the zone is missing, '.' for all names: forward . {source.text}"
        return self._c.error("an upstream is missing after the zone", source, hint)

    def _from(self, token: Token) -> None:
        c = self._c
        zones = c.zones_of(token)
        if as_ip(token.text) is not None:
            hint = f"the first argument is a zone, '.' for all names: forward . {token.text}"
            c.warn(f"{token.text!r} is taken as a zone, not as an upstream", token, hint)
        if len(zones) > 1:
            c.warn(
                f"'{token.text}' expands to {len(zones)} zones; only '{zones[0]}' is forwarded",
                token,
            )
        self._settings.zone = zones[0]

    def _to(self, tokens: list[Token]) -> None:
        c, settings = self._c, self._settings
        if not any(entry.targets or entry.hostname for entry in settings.entries):
            raise c.error("no valid upstream addresses found", tokens[0], self._reasons())
        if len(settings.entries) > MAX_TARGETS:
            raise c.error(
                f"more than {MAX_TARGETS} TOs configured: {len(settings.entries)}",
                tokens[MAX_TARGETS],
            )
        for entry, token in zip(settings.entries, tokens, strict=True):
            for problem in entry.problems:
                c.warn(problem, token)
        self._warn_of_comment(tokens[-1])

    def _warn_of_comment(self, token: Token) -> None:
        """Warn of `ADDRESS#NAME`, the form of other resolvers: here NAME is a comment."""
        line = token.source.line(token.line)
        if line.startswith("#", token.column - 1 + token.length):
            hint = "a server name for TLS follows a percent sign: tls://192.0.2.1%dns.example"
            self._c.warn(f"a comment begins directly after {token.text!r}", token, hint)

    def _reasons(self) -> str | None:
        return "; ".join(problem for e in self._settings.entries for problem in e.problems) or None

    def _entry(self, token: Token) -> ToAddress:
        """Parse one TO; the entry excludes targets that can never be used."""
        c = self._c
        try:
            entry = parse_target(token.text)
            if entry.file is not None:
                c.watch_file(entry.file)
                self._read(entry, entry.file)
        except MissingFileError as error:
            near = suggest_file(error.path)
            raise c.error(str(error), token, near and f"did you mean {near!r}?") from None
        except ValueError as error:
            raise c.error(str(error), token, getattr(error, "hint", None)) from None
        entry.position = f"{token.file}:{token.line}"
        if entry.file is None:
            refuse_own_addresses(c, entry, token)
            _drop_flawed(entry)
        return entry

    def _read(self, entry: ToAddress, file: Path) -> None:
        """Add the name servers in a file to `entry`; raises `ValueError` if it cannot be read."""
        contents = read_resolv_conf(file)
        own = named_addresses(self._c.config)
        entry.version = contents.version
        entry.problems = contents.problems
        for target, position in contents.servers:
            if own_among([target], own):
                entry.problems.append(skipped_own(target, position))
            else:
                entry.targets.append(target)
                entry.positions.setdefault(target, position)

    def _check_tls(self, tokens: list[Token]) -> None:
        settings = self._settings
        targets = without_repeats(t for entry in settings.entries for t in entry.targets)
        for target in targets:
            if target.transport in _NAMED_ONCE and target.server_name and settings.tls_servername:
                raise self._c.error(
                    f"both forward ('{settings.tls_servername}') and proxy level"
                    f" ('{target.server_name}') TLS servernames are set for upstream proxy"
                    f" '{target.transport}://{target.address}'",
                    tokens[0],
                )
        transports = {target.transport for target in targets}
        transports |= {e.hostname.transport for e in settings.entries if e.hostname}
        secure = sorted(transports - {"dns"})
        if settings.ddr:
            self._check_ddr(tokens[0])
        self._warn_without_effect(transports, tokens[0])
        if secure or settings.tls.ca or settings.tls.cert or settings.ddr:
            self._make_contexts(secure, tokens)

    def _warn_without_effect(self, transports: set[str], token: Token) -> None:
        """Warn of options for encrypted upstreams if there are none, and vice versa."""
        settings, warn = self._settings, self._c.warn
        if settings.ddr:
            if "dns" not in transports:
                warn("ddr has no effect: all upstreams are encrypted already", token)
        elif transports == {"dns"}:
            hint = "an encrypted upstream has a scheme, such as tls://192.0.2.53"
            options = {"tls": settings.tls.paths, "tls_servername": settings.tls_servername}
            for option in (name for name, value in options.items() if value):
                warn(f"{option} has no effect: queries to plain DNS are not encrypted", token, hint)

    def _check_ddr(self, token: Token) -> None:
        """Raise an error for options that exclude each other."""
        if self._settings.tls_servername:
            problem = "tls_servername cannot be combined with ddr, which verifies addresses"
            raise self._c.error(problem, token)
        if not self._settings.max_fails:
            problem = "max_fails 0 cannot be combined with ddr, which needs health checks"
            raise self._c.error(problem, token)

    def _make_contexts(self, transports: list[str], tokens: list[Token]) -> None:
        """Load certificates now, so that an invalid file is an error in the Corefile."""
        files = self._settings.tls
        for path in files.paths:
            self._c.watch_file(path)
        for transport in transports:
            self._import_client(transport, self._first(transport, tokens))
        try:
            for transport in transports or ["tls"]:
                self._settings.tls_contexts[transport] = make_context(files, transport)
        except (OSError, ValueError) as error:
            raise self._c.error(f"tls: {error}", tokens[0]) from None

    def _first(self, transport: str, tokens: list[Token]) -> Token:
        """Return the first TO with an upstream over `transport`."""
        for entry, token in zip(self._settings.entries, tokens, strict=True):
            found = [*entry.targets, entry.hostname]
            if any(it is not None and it.transport == transport for it in found):
                return token
        return tokens[0]

    def _import_client(self, transport: str, token: Token) -> None:
        """Import the modules for a transport now, not while a client waits."""
        try:
            import_client(transport)
        except ImportError as error:
            hint = f"pip install {_LIBRARIES[transport]}"
            problem = f"needs {error.name}, which is not installed" if error.name else str(error)
            raise self._c.error(f"{transport}:// {problem}", token, hint) from None


def _drop_flawed(entry: ToAddress) -> None:
    """Remove targets that no socket can connect to, and add a message for each."""
    for target in list(entry.targets):
        problem = flaw(target)
        if problem:
            entry.targets.remove(target)
            entry.problems.append(f"{problem}; this upstream is skipped")
