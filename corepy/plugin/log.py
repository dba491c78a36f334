"""Loggers for plugins, in CoreDNS's format: `[LEVEL] plugin/name: message`.

A line goes to standard output without a time stamp, as CoreDNS's does (the container runtime adds
one). `configure` is called once, by the command.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

ROOT = "corepy"
_PLUGIN_ROOT = f"{ROOT}.plugin."


def plugin_logger(directive: str) -> logging.Logger:
    """Return the logger of the plugin with this directive."""
    return logging.getLogger(_PLUGIN_ROOT + directive)


def server_logger() -> logging.Logger:
    """Return the logger of the server itself."""
    return logging.getLogger(ROOT)


class CoreDNSFormatter(logging.Formatter):
    """`[WARNING] plugin/forward: message`; the server's own lines have no prefix after the
    level.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`, with the traceback below when there is one."""
        level = "FATAL" if record.levelno >= logging.CRITICAL else record.levelname
        prefix = (
            f"plugin/{record.name[len(_PLUGIN_ROOT) :]}: "
            if record.name.startswith(_PLUGIN_ROOT)
            else ""
        )
        line = f"[{level}] {prefix}{record.getMessage()}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send the project's log to `stream` (standard output unless given), from `level` up. May be
    called again.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stdout)
    handler.setFormatter(CoreDNSFormatter())
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
