"""The command-line options of the server process. Imports nothing: `-version` must be fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from corepy.corefile import GeneratedCorefile

    Companion = Callable[[Callable[[str], Awaitable[bool]]], Coroutine[Any, Any, None]]
    """A coroutine function that runs beside the server; its argument reloads the Corefile."""

DEFAULT_PORT = 53
EXIT_OK, EXIT_FAILURE = 0, 1


@dataclass(frozen=True, slots=True)
class Options:
    """The flags that affect the server beyond the command itself."""

    conf: str | None = None
    """The Corefile: a path, "stdin", or None for ./Corefile or the default configuration."""

    port: int = DEFAULT_PORT
    """The port of zones without one."""

    quiet: bool = False
    pidfile: str | None = None

    log_format: str = "text"
    """"text" has the form of CoreDNS's log; with "json" each line of output is a JSON object."""

    plugin_order: str | None = None
    """A file with the operator's rules for the order of the chain (`corepy.loading.orderfile`)."""

    make_corefile: Callable[[], GeneratedCorefile] | None = None
    """Makes the Corefile at the start and at each reload, in place of a file.

    Raises `CorefileError` if that fails.
    """

    companion: Companion | None = None
    """Runs from the time when the server answers until it is told to stop."""
