"""Loggers for plugins, in CoreDNS's format: `[LEVEL] plugin/name: message`.

Lines go to standard output without a time stamp, as in CoreDNS (the container runtime adds one).
The command calls `configure` once.
"""

from __future__ import annotations

import logging

from corepy.plugin.output import WRITER

ROOT = "corepy"
_PLUGIN_ROOT = f"{ROOT}.plugin."


def plugin_logger(directive: str) -> logging.Logger:
    """Return the logger of the plugin with this directive."""
    return logging.getLogger(_PLUGIN_ROOT + directive)


def server_logger() -> logging.Logger:
    """Return the logger of the server itself."""
    return logging.getLogger(ROOT)


class CoreDNSFormatter(logging.Formatter):
    """Formats `[WARNING] plugin/forward: message`; the server's messages have no plugin prefix."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for `record`, followed by the traceback if there is one."""
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


class OutputHandler(logging.Handler):
    """Passes each line to the process's writer, which never blocks on its reader or a lock."""

    def createLock(self) -> None:
        """Use no lock: a thread that blocks while holding it would block the event loop."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit `record` unless a filter rejects it."""
        passed = self.filter(record)
        if passed:
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line for `record`."""
        try:
            WRITER.write(self.format(record))
        except Exception:
            self.handleError(record)


def configure(level: int = logging.INFO, *, json: bool = False) -> None:
    """Send the project's log to standard output, from `level` up. May be called again.

    With `json` every line of the process becomes a JSON object.
    """
    WRITER.json = json
    handler = OutputHandler()
    handler.setFormatter(CoreDNSFormatter())
    root = logging.getLogger(ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def unconfigure() -> None:
    """Undo `configure`, for a command that has finished its output."""
    root = logging.getLogger(ROOT)
    root.handlers.clear()
    root.setLevel(logging.NOTSET)
    root.propagate = True
