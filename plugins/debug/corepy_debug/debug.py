"""Set the log level while a configuration with *debug* is served.

The log belongs to the process, but *debug* to a server block of one generation. So the active
directives are counted: during a reload the new generation starts before the old one ends.
"""

from __future__ import annotations

import logging

from corepy.plugin import hookimpl
from corepy.plugin.log import server_logger


class _Level:
    """The log level of the process; DEBUG while any server block requires it."""

    def __init__(self) -> None:
        self._wanted = 0
        self._before = logging.NOTSET

    def want(self) -> None:
        """Log debug messages from now on."""
        if not self._wanted:
            self._before = server_logger().level
            server_logger().setLevel(logging.DEBUG)
        self._wanted += 1

    def release(self) -> None:
        """Withdraw one request; the last one restores the previous level."""
        self._wanted -= 1
        if not self._wanted:
            server_logger().setLevel(self._before)


_LEVEL = _Level()


class Verbosity:
    """The *debug* directive of one server block."""

    def __init__(self) -> None:
        self._is_wanted = False

    @hookimpl
    def before_listen(self) -> None:
        """Log debug messages."""
        if not self._is_wanted:
            self._is_wanted = True
            _LEVEL.want()

    @hookimpl
    def shutdown(self) -> None:
        """Restore the log level."""
        if self._is_wanted:
            self._is_wanted = False
            _LEVEL.release()
