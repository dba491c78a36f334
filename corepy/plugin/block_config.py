"""The configuration of one server block, which directives share by typed values.

A directive stores a value with `Controller.configure`. The server and other directives read it by
its type with `BlockConfig.get`. The types below and those of `listener_settings` configure the
server; plugins may add types of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from corepy.plugin.block_handlers import BlockHandlers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.corefile import ZoneAddress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListenHosts:
    """The addresses that a server block listens on; *bind* sets it."""

    hosts: tuple[str, ...] = ("",)
    """IP addresses; "" for all addresses of both families, 0.0.0.0 and :: for those of one."""


@dataclass(frozen=True, slots=True)
class SocketCount:
    """The number of sockets per address; *multisocket* sets it."""

    per_address: int = 1
    """Sockets per transport and address, each with a process of its own.

    Among blocks that share an address, the first one decides.
    """


@dataclass(frozen=True, slots=True)
class QueryTimeout:
    """The time limit of a query; *cancel* sets it."""

    seconds: float = 0.0
    """Seconds after which the chain is cancelled and the client gets SERVFAIL.

    0 for the limit of the process, which is also the maximum (`corepy.server.listen`).
    """


@dataclass(frozen=True, slots=True)
class Debug:
    """What to log about an exception in a handler of the block; *debug* and *errors* set it."""

    tracebacks: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """The folder that relative paths of the block's directives begin at; *root* sets it.

    `Controller.path` applies it. *root* is set up before all other directives that come with
    corepy, regardless of the order of lines in the Corefile and of `-plugin-order`.
    """

    folder: Path = Path()
    """By default, and if it is relative, it depends on the folder in which corepy was started."""


class ListenerConfig:
    """The values that configure a listener: those of the blocks that it serves, merged."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[type, object] | None = None) -> None:
        """`values` are keyed by their types."""
        self._values: dict[type, object] = {} if values is None else dict(values)

    def get(self, kind: type[T]) -> T:
        """Return the stored value of type `kind`, by default `kind()`."""
        value = self._values.get(kind)
        return kind() if value is None else cast("T", value)

    @property
    def values(self) -> Mapping[type, object]:
        """The stored values by type."""
        return self._values


class BlockConfig(ListenerConfig):
    """The keys of one server block, and the values that its directives store (CoreDNS: Config)."""

    __slots__ = ("_directives", "handlers", "keys")

    def __init__(self, keys: Sequence[ZoneAddress]) -> None:
        """`keys` are the zones of the block with transport and port; the first identifies it."""
        super().__init__()
        self.keys = keys
        self.handlers = BlockHandlers()
        self._directives: dict[type, str] = {}

    def set(self, value: object, directive: str = "") -> None:
        """Store `value`, which replaces an earlier value of its type, for `directive`."""
        self._values[type(value)] = value
        self._directives[type(value)] = directive

    def directive_of(self, kind: type) -> str:
        """Return the directive that stored the value of type `kind`, "" if none did."""
        return self._directives.get(kind, "")

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
