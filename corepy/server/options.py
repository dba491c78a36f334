"""What the command line says of the process. Imports nothing, so that `-version` costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 53
EXIT_OK, EXIT_FAILURE = 0, 1


@dataclass(frozen=True, slots=True)
class Options:
    """The flags that matter beyond the command itself."""

    conf: str | None = None
    """The Corefile: a path, "stdin", or None for ./Corefile or the default configuration."""

    port: int = DEFAULT_PORT
    """For zones that name no port."""

    quiet: bool = False
    pidfile: str | None = None

    log_format: str = "text"
    """"text" is CoreDNS's form; "json" makes every line of the process an object."""

    plugin_order: str | None = None
    """A file with the operator's order of the chain (`corepy.plugin.orderfile`)."""
