"""Builds a `Generation` from a parsed Corefile: sets up plugins, builds chains, checks zones.

Opens no socket and has no other side effects on the host. Independent mistakes are collected and
reported together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.corefile import CorefileError, Diagnostic, OverlapChecker, server_keys, suggest
from corepy.corefile.keys import ZoneAddress
from corepy.corefile.zones import DEFAULT_SCHEME
from corepy.dns.context import ECHOED_OPTIONS
from corepy.loading.order import Constraint, resolve, setup_order
from corepy.loading.orderfile import unknown_names
from corepy.loading.registry import LoadedPlugin, describe_failure, find, load
from corepy.plugin import (
    BlockConfig,
    BlockFilters,
    Controller,
    Debug,
    Handler,
    ListenHosts,
    PluginError,
)
from corepy.plugin.errors import OrderError
from corepy.plugin.failures import count
from corepy.plugin.fingerprint import words
from corepy.server.build.embedding import Embedder
from corepy.server.build.generation import Generation, Plan
from corepy.server.build.handler_chain import (
    cache_above_denial,
    enter,
    link,
    observing_first,
    with_common,
)
from corepy.server.build.label_checks import BlockLabels
from corepy.server.build.listener_configs import ListenerConfigs
from corepy.server.build.meaning import BlockMeaning, DirectiveMeaning
from corepy.server.build.routes import RoutedBlock, RouteTable, normal_host, position_of, relayed
from corepy.server.build.transport_checks import TransportChecker
from corepy.server.build.validate import reject_coroutine, validate_handlers
from corepy.server.contain.attribution import doing
from corepy.server.listen.endpoint import Listen
from corepy.server.listen.transports import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corepy.corefile import Corefile, ServerBlock, Token
    from corepy.loading.order import OperatorRule
    from corepy.loading.registry import FoundPlugin

DEFAULT_PORT = 53


@dataclass(slots=True)
class _Block:
    """A server block during the build."""

    parsed: ServerBlock
    config: BlockConfig
    parts: dict[str, list[Handler]] = field(default_factory=dict)
    """The handlers that each directive added."""

    handlers: list[Handler] = field(default_factory=list)
    """The same handlers in chain order."""

    labels: BlockLabels = field(init=False)
    """The labels of metadata that the directives read and provide."""

    meanings: dict[str, DirectiveMeaning] = field(default_factory=dict)
    """The inputs of each directive."""

    is_valid: bool = True
    """False after a mistake in the block: checks that depend on the whole block are skipped."""

    def __post_init__(self) -> None:
        self.labels = BlockLabels(self.config, frozenset(self.parsed.directives))

    def decides_replies(self, directive: str) -> bool:
        """Return whether a directive has a handler or a filter, which selects the block."""
        filters = self.config.get(BlockFilters).filters
        return bool(self.parts.get(directive)) or any(it.name == directive for it in filters)


def build(
    corefile: Corefile,
    default_port: int = DEFAULT_PORT,
    found: Mapping[str, FoundPlugin] | None = None,
    *,
    checking: bool = False,
    on_imported: Callable[[], None] | None = None,
    rules: Sequence[OperatorRule] = (),
    hosts: list[list[str]] | None = None,
) -> Generation:
    """Return the generation that `corefile` describes.

    `default_port` is the port of zones without one. `found` are the installed plugins, looked up by
    default. With `checking` the result is not meant to be started. `on_imported` is called after
    all plugins are imported and before anything is built. `rules` are the operator's rules for the
    order of the chain. `hosts` are the addresses of the blocks as the leader resolved them, for a
    follower.

    Raises `corepy.corefile.CorefileError` with every mistake that could be found.
    """
    installed = find() if found is None else found
    builder = _Builder(corefile, default_port, installed, rules, hosts, checking=checking)
    return builder.build(on_imported)


class _Builder:
    def __init__(
        self,
        corefile: Corefile,
        default_port: int,
        found: Mapping[str, FoundPlugin],
        rules: Sequence[OperatorRule],
        hosts: list[list[str]] | None,
        *,
        checking: bool,
    ) -> None:
        self._checking = checking
        self._rules = rules
        self._hosts = hosts
        self._corefile = corefile
        self._default_port = default_port
        self._found = found
        self._embedder = Embedder(found)
        self._shared: dict[type, object] = {}
        self._makers: list[Callable[[], Handler]] = []  # of handlers for every chain
        self._mistakes: list[Diagnostic] = []
        self._transports = TransportChecker()
        self._echoed_options = ECHOED_OPTIONS
        self._generation = Generation(
            files=[Path(name) for name in corefile.files], warnings=list(corefile.warnings)
        )

    def build(self, on_imported: Callable[[], None] | None) -> Generation:
        blocks = [self._open(parsed) for parsed in self._corefile.blocks]
        for zoneless in self._corefile.zoneless:
            blocks += self._reject_zoneless(zoneless)
        loaded = self._load_all()
        if on_imported is not None:
            on_imported()
        for block in blocks:
            block.is_valid &= block.parsed.directives.keys() <= loaded.keys()
        chain = self._order(loaded)
        for directive in setup_order(chain):
            if loaded[directive].acts_once and self._hosts is not None:
                continue  # only the leader sets it up
            for block in blocks:
                if directive in block.parsed.directives:
                    self._set_up(loaded[directive], block)
        for block in blocks:
            added = [(name, it) for name in chain for it in block.parts.get(name, ())]
            block.handlers = with_common(
                observing_first([handler for _, handler in added]), self._makers
            )
            if block.is_valid:
                block.config.handlers.complete(added, position_of(block.parsed))
            self._check_caches(block)
        for block, hosts in zip(blocks, self._hosts or (), strict=False):
            block.config.set(ListenHosts(tuple(hosts)))
        self._warn_of_idle_rules(blocks, loaded)
        self._generation.warnings += [
            it for block in blocks for it in block.labels.warnings(loaded.keys())
        ]
        self._listen([block for block in blocks if block.is_valid])
        if self._mistakes:
            raise CorefileError(*sorted(self._mistakes, key=self._reading_order))
        self._generation.blocks = [
            BlockMeaning(
                position_of(block.parsed),
                tuple(block.config.zones),
                (*map(str, block.config.keys), *block.config.get(ListenHosts).hosts),
                [block.meanings[name] for name in chain if block.decides_replies(name)],
            )
            for block in blocks
        ]
        listen_hosts = [list(block.config.get(ListenHosts).hosts) for block in blocks]
        self._generation.plan = Plan(
            self._corefile, self._default_port, listen_hosts, list(self._rules)
        )
        return self._generation

    def _reading_order(self, mistake: Diagnostic) -> tuple[int, int, int]:
        """Return the position of a mistake in the reading order of all files."""
        token = mistake.token
        if token is None:
            return (-1, 0, 0)
        sources = self._corefile.sources
        file = sources.index(token.source) if token.source in sources else len(sources)
        return (file, token.line, token.column)

    def _reject_zoneless(self, block: ServerBlock) -> list[_Block]:
        """Reject a block without a zone, which CoreDNS ignores silently.

        It is returned so that its directives are checked, too. A block whose zone is an unset
        variable may be omitted on purpose: it is ignored with a warning if there are other blocks.
        """
        names = list(dict.fromkeys(filter(None, map(_empty_word_message, block.empty_keys))))
        if names and self._corefile.blocks:
            message = "this server block has no zone and is ignored"
            warning = Diagnostic(message, block.opening, ", ".join(names), "warning")
            self._generation.warnings.append(warning)
            return []
        hint = "write its zones before the brace, '.' for all names"
        message = "this server block has no zone"
        self._mistakes.append(Diagnostic(message, block.opening, ", ".join(names) or hint))
        return [self._without_keys(block)]

    def _without_keys(self, parsed: ServerBlock) -> _Block:
        """Return a block for invalid keys, so that its directives are checked."""
        token = parsed.opening or parsed.keys[0]
        placeholder = ZoneAddress(".", self._default_port, DEFAULT_SCHEME, token)
        return _Block(parsed, BlockConfig([placeholder]), is_valid=False)

    def _open(self, parsed: ServerBlock) -> _Block:
        try:
            keys = server_keys(parsed, self._default_port, KNOWN)
        except CorefileError as error:
            self._mistakes.extend(error.diagnostics)
            return self._without_keys(parsed)
        self._mistakes += filter(None, map(self._transports.check_scheme, keys))
        return _Block(parsed, BlockConfig(keys))

    def _load_all(self) -> dict[str, LoadedPlugin]:
        """Import the plugins that the Corefile uses; report failures at the directives."""
        loaded: dict[str, LoadedPlugin] = {}
        failed: dict[str, str] = {}
        for block in (*self._corefile.blocks, *self._corefile.zoneless):
            for directive, tokens in block.directives.items():
                if directive in loaded:
                    continue
                if directive not in self._found:
                    hint = _stray_brace(block) or self._hint(directive)
                    message = f"unknown directive {directive!r}"
                    self._mistakes.append(Diagnostic(message, tokens[0], hint))
                    continue
                if directive not in failed:
                    try:
                        with doing(directive):
                            loaded[directive] = load(self._found[directive])
                        continue
                    except PluginError as error:
                        failed[directive] = str(error)
                        count(directive, "setup")
                self._mistakes.append(Diagnostic(failed[directive], tokens[0]))
        return loaded

    def _hint(self, directive: str) -> str:
        near = suggest(directive, list(self._found))
        if near:
            return f"did you mean {near!r}?"
        return "`corepy -plugins` lists the installed plugins"

    def _order(self, loaded: Mapping[str, LoadedPlugin]) -> list[str]:
        """Return the directives in use in chain order."""
        unknown = unknown_names(self._rules, self._found)
        if unknown:
            self._mistakes.extend(unknown)
            return []
        constraints = [
            Constraint(p.directive, p.distribution, p.before, p.after) for p in loaded.values()
        ]
        try:
            order = resolve(constraints, self._found, self._rules)
        except OrderError as error:
            token = error.token or self._use_of(error.directive)
            self._mistakes.append(Diagnostic(str(error), token))
            return []
        return [directive for directive in order if directive in loaded]

    def _use_of(self, directive: str) -> Token | None:
        uses = (block.directives.get(directive) for block in self._corefile.blocks)
        return next((tokens[0] for tokens in uses if tokens), None)

    def _check_caches(self, block: _Block) -> None:
        """Reject a cache above a handler that denies clients, which only the operator can order."""
        found = cache_above_denial(block.handlers)
        if found is not None:
            cache, handler = found
            message = f"{cache.name} is above {handler.name}: clients denied by {handler.name}"
            hint = "remove the rules for both from the file of -plugin-order"
            token = block.parsed.directives.get(handler.name, (None,))[0]
            self._mistakes.append(Diagnostic(f"{message} would get cached replies", token, hint))

    def _warn_of_idle_rules(self, blocks: list[_Block], loaded: Mapping[str, LoadedPlugin]) -> None:
        """Warn about order rules for directives that have no handler."""
        subjects = {rule.subject.text: rule.subject for rule in self._rules}
        for name, token in subjects.items():
            if name in loaded and not any(block.parts.get(name) for block in blocks):
                message = f"{name} handles no queries, so its position in the chain has no effect"
                self._generation.warnings.append(Diagnostic(message, token, None, "warning"))

    def _set_up(self, plugin: LoadedPlugin, block: _Block) -> None:
        directive = plugin.directive
        controller = Controller(
            directive,
            block.parsed,
            block.config,
            checking=self._checking,
            embedder=self._embedder,
            shared=self._shared,
        )
        token = block.parsed.directives[directive][0]
        try:
            with doing(directive):
                setup: Callable[[Controller], object] = plugin.setup  # it may return anything
                reject_coroutine(setup(controller))
                validate_handlers(controller)
                for hooks in (*controller.handlers, *controller.hooks):
                    self._generation.register(hooks, directive)
        except CorefileError as error:
            self._mistakes.extend(
                it if isinstance(it, Diagnostic) else Diagnostic(str(it), token)
                for it in error.diagnostics or ("failed in setup",)
            )
            block.is_valid = False
            return
        except BaseException as error:  # plugin code may raise SystemExit
            count(directive, "setup")
            problem = f"plugin/{directive} (from {plugin.distribution}) failed in setup"
            reason = describe_failure(directive, error)
            self._mistakes.append(Diagnostic(f"{problem}: {reason}", token))
            block.is_valid = False
            return
        block.parts[directive] = controller.handlers
        self._makers += controller.makers
        block.labels.note(controller)
        block.meanings[directive] = DirectiveMeaning(
            directive,
            tuple(words(block.parsed.directives[directive])),
            controller.file_versions,
            controller.handlers,
        )
        self._generation.files.extend(controller.files)
        self._generation.warnings.extend(controller.warnings)
        self._echoed_options |= controller.echoed_options

    def _listen(self, blocks: list[_Block]) -> None:
        """Fill in the routers: each zone of each block, at each listen address of the block."""
        checker, configs = OverlapChecker(), ListenerConfigs()
        table = RouteTable({it for block in blocks for it in relayed(block.config)})
        any_class: set[Listen] = set()
        for block in blocks:
            for handler in block.handlers:
                handler.debug = block.config.get(Debug).tracebacks
            top = link(block.handlers)
            routed = RoutedBlock(block.parsed, block.config, block.handlers, enter(top))
            is_filtered = bool(block.config.get(BlockFilters).filters)
            for key in block.config.keys:
                mistake = self._transports.check_block(key, block.config)
                if mistake is not None:
                    self._mistakes.append(mistake)
                for host in block.config.get(ListenHosts).hosts:
                    listen = Listen(key.transport, normal_host(host), key.port)
                    mistake = checker.check(
                        key, host, filtered=is_filtered
                    ) or self._transports.check_sockets(key, listen)
                    if mistake is not None:
                        self._mistakes.append(mistake)
                        continue
                    warning = table.add(listen, key, routed)
                    if warning is not None:
                        self._generation.warnings.append(warning)
                    configs.add(listen, block.parsed, block.config, key)
                    sockets = self._transports.sockets(listen, block.config)
                    self._generation.sockets.setdefault(listen, sockets)
                    if any(handler.any_class for handler in block.handlers):
                        any_class.add(listen)
        hook = self._generation.plugins.hook.dropped
        dropped = hook if hook.get_hookimpls() else None
        self._generation.routers = table.routers(any_class, dropped, self._echoed_options)
        self._generation.settings = dict(configs.merged())
        self._mistakes += configs.mistakes
        self._generation.warnings += configs.warnings


def _empty_word_message(word: Token) -> str | None:
    """Return a message that names the environment variables that leave a word empty."""
    variables = word.source.variables
    return variables.missing_values(word.raw) if variables is not None else None


def _stray_brace(block: ServerBlock) -> str | None:
    """Return a hint if the keys of a block are a brace that closes nothing.

    The first line below it is then read as a directive, as in Caddy.
    """
    brace = next((key for key in block.keys if key.text == "}"), None)
    return brace and f"the brace at {brace.location} closes no block; remove it"
