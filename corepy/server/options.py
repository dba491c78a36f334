"""The command-line options of the server process. Imports nothing: `-version` must be fast."""

from __future__ import annotations

from dataclasses import dataclass

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
