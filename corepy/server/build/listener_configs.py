"""Merges the settings of the server blocks that listen at one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.corefile import Diagnostic
from corepy.plugin import ListenerConfig, ListenerSetting
from corepy.plugin.errors import describe
from corepy.server.listen import transports
from corepy.server.listen.transports import TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.corefile import ServerBlock, Token, ZoneAddress
    from corepy.plugin import BlockConfig
    from corepy.server.listen.endpoint import Listen

    Settings = dict[type, list[tuple["_Sharer", object]]]


class _Sharer:
    """A server block that listens at an address, with the key for which it does."""

    __slots__ = ("config", "key", "parsed")

    def __init__(self, parsed: ServerBlock, config: BlockConfig, key: ZoneAddress) -> None:
        self.parsed = parsed
        self.config = config
        self.key = key

    def token(self, kind: type) -> Token:
        """Return the directive that has stored a setting."""
        directive = self.config.directive_of(kind)
        return self.parsed.directives.get(directive, (self.key.token,))[0]


class ListenerConfigs:
    """Collects the blocks of each address, and merges their values."""

    def __init__(self) -> None:
        """Start without blocks."""
        self._sharers: dict[Listen, list[_Sharer]] = {}
        self._reported: set[tuple[int, str]] = set()
        self.mistakes: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []

    def add(
        self, listen: Listen, parsed: ServerBlock, config: BlockConfig, key: ZoneAddress
    ) -> None:
        """Add a block that listens at an address because of `key`."""
        sharers = self._sharers.setdefault(listen, [])
        if not sharers or sharers[-1].config is not config:
            sharers.append(_Sharer(parsed, config, key))

    def merged(self) -> Iterator[tuple[Listen, ListenerConfig]]:
        """Yield the configuration of each address; add to `mistakes` and `warnings`."""
        for listen, sharers in self._sharers.items():
            try:
                transport = transports.get(listen.transport)
            except TransportError:  # reported for the key
                continue
            values: dict[type, object] = {}
            for kind, found in _by_type(sharers).items():
                if issubclass(kind, ListenerSetting):
                    if kind in transport.settings:
                        values[kind] = self._merge(kind, found)
                    elif kind.must_apply:
                        self._refuse(kind, found, listen)
                else:
                    values[kind] = found[-1][1]
            config = ListenerConfig(values)
            try:
                problem = transport.find_listener_problem(config)
            except BaseException as error:  # it may be third-party code, and call sys.exit()
                problem = f"the transport {listen.transport}:// failed: {describe(error)}"
            if problem is not None:
                key = sharers[0].key
                self.mistakes.append(Diagnostic(f"cannot serve {key}: {problem}", key.token))
            yield listen, config

    def _merge(
        self, kind: type[ListenerSetting], found: Sequence[tuple[_Sharer, object]]
    ) -> object:
        settings: list[Any] = [value for _, value in found]
        try:
            merged, conflicts = kind.merge(settings)
        except BaseException as error:  # it may be third-party code, and call sys.exit()
            message = f"the settings of the server blocks at this address: {describe(error)}"
            self._report(Diagnostic(message, found[-1][0].token(kind)), is_error=True)
            return settings[-1]
        for index, other, message, token, is_error in conflicts:
            related = ("the other server block", found[other][0].token(kind))
            at = token or found[index][0].token(kind)
            hint = "give both the same settings, or different addresses" if is_error else None
            self._report(Diagnostic(message, at, hint, "error", (related,)), is_error=is_error)
        return merged

    def _refuse(self, kind: type, found: Sequence[tuple[_Sharer, object]], listen: Listen) -> None:
        for sharer, _ in found:
            directive = sharer.config.directive_of(kind)
            message = f"{listen.transport}:// listeners cannot apply {directive}"
            hint = f"remove {directive} from this server block"
            self._report(Diagnostic(message, sharer.token(kind), hint), is_error=True)

    def _report(self, mistake: Diagnostic, *, is_error: bool) -> None:
        """Add a diagnostic, once for all addresses of a block."""
        if (id(mistake.token), mistake.message) in self._reported:
            return
        self._reported.add((id(mistake.token), mistake.message))
        if is_error:
            self.mistakes.append(mistake)
        else:
            self.warnings.append(mistake._replace(severity="warning"))


def _by_type(sharers: Sequence[_Sharer]) -> Settings:
    """Return the blocks that have a value of each type, in the order of the file."""
    found: Settings = {}
    for sharer in sharers:
        for kind, value in sharer.config.values.items():
            found.setdefault(kind, []).append((sharer, value))
    return found
