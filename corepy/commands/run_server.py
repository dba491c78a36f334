"""Runs the server for a command of a plugin that makes the Corefile itself.

The command runs in the server's process: `run_server` returns when the server has stopped. So a
plugin can have a command that serves without importing `corepy.server`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from corepy import corefile
from corepy.corefile import GeneratedCorefile as GeneratedCorefile
from corepy.net.signal_reset import restore_signals
from corepy.server.options import DEFAULT_PORT, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.corefile import Diagnostic, ServerBlock, Token, ZoneAddress
    from corepy.server.options import Companion as Companion


class BlockOutline(NamedTuple):
    """A server block of a Corefile, before its directives are set up."""

    keys: Sequence[ZoneAddress]
    """Its zones, with port and transport."""

    directives: Sequence[str]

    opening: Token | None
    """Its opening brace, or the token in its place; None if an import has brought the block."""


def run_server(
    make_corefile: Callable[[], GeneratedCorefile],
    companion: Companion,
    *,
    port: int = DEFAULT_PORT,
    quiet: bool = False,
    pidfile: str | None = None,
) -> int:
    """Serve until a signal stops the process; return the exit code.

    `make_corefile` is called at the start and at each reload; it raises `CorefileError` if it has
    no Corefile. `companion` is a coroutine function. It runs beside the server, from the time when
    the server answers until a signal stops it, and gets a function that reloads the Corefile: it
    takes the reason, for the log, and returns whether the new configuration runs. `port` is for
    zones without one.
    """
    restore_signals()
    from corepy.release import version_text
    from corepy.server.process import run

    options = Options(
        port=port,
        quiet=quiet,
        pidfile=pidfile,
        make_corefile=make_corefile,
        companion=companion,
    )
    return run(options, version_text())


def quit_at_once(pidfile: str | None) -> NoReturn:
    """End the process of `run_server` without waiting for queries; see `run_server` for `pidfile`.

    For a companion that handles SIGQUIT.
    """
    from corepy.server import process

    process.quit_at_once(pidfile)


def check_generated(made: GeneratedCorefile, port: int = DEFAULT_PORT) -> Sequence[Diagnostic]:
    """Return the errors of a Corefile: its plugins are set up, but nothing is started."""
    from corepy.server.build.loader import Loader

    try:
        Loader(Options(port=port, make_corefile=lambda: made)).load(checking=True)
    except corefile.CorefileError as error:
        return error.diagnostics
    return ()


def outline_generated(made: GeneratedCorefile, port: int = DEFAULT_PORT) -> list[BlockOutline]:
    """Return the server blocks of a Corefile with its imports; raises `CorefileError`."""
    from corepy.server.listen.transports import KNOWN

    parsed = corefile.parse_generated(made, schemes=KNOWN)
    main = parsed.sources[0]
    return [
        BlockOutline(
            corefile.server_keys(block, port, KNOWN),
            list(block.directives),
            block.opening if _is_in(main, block) else None,
        )
        for block in parsed.blocks
    ]


def _is_in(main: corefile.Source, block: ServerBlock) -> bool:
    opening = block.opening
    return opening is not None and opening.source is main and opening.origin is None


def print_plugins() -> int:
    """Print the installed plugins, as `corepy -plugins` does; return the exit code."""
    from corepy.commands.plugin_list import list_plugins

    return list_plugins()


def print_version() -> int:
    """Print the version, as `corepy -version` does; return the exit code."""
    from corepy.commands.standard_output import write_output
    from corepy.release import version_text

    write_output(version_text())
    return 0
