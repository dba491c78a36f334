"""How much is logged while a configuration with *debug* is served.

The log belongs to the process, *debug* to a server block of one generation. So those that are in
force are counted: on a reload the new one has begun before the old one ends.
"""

from __future__ import annotations

import logging

from corepy.plugin import hookimpl
from corepy.plugin.log import server_logger


class _Level:
    """The log level of the process; DEBUG while anybody wants it."""

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
        """Take one wish back; the last one brings back the level from before."""
        self._wanted -= 1
        if not self._wanted:
            server_logger().setLevel(self._before)


_LEVEL = _Level()


class Verbosity:
    """The wish of one server block."""

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
        """Log as before."""
        if self._is_wanted:
            self._is_wanted = False
            _LEVEL.release()
