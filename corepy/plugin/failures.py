"""Counts and logs failures of plugins at run time, by plugin.

A failure affects only the query or the hook in which it occurs, never the process or other queries.
This module is for code that calls third-party plugins: the server, and plugins that call hooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics
from corepy.plugin.errors import describe
from corepy.plugin.log import plugin_logger, server_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = metrics.counter(
    "corepy_plugin_failures_total",
    "Contained failures of plugins, by kind.",
    ("plugin", "kind"),
)
KINDS: Final = (
    "exception",  # a query's handler raised an exception, or passed one on
    "nonsense",  # it returned something other than a valid reply to the query
    "timeout",  # it did not answer in time
    "blocked",  # it blocked the event loop
    "setup",  # its import or setup raised, or created an invalid handler
    "hook",  # one of its hooks raised, or did not return
    "task",  # one of its tasks, callbacks or hit counters raised
)
SERVER: Final = "server"
"""Label value for failures that are not a plugin's."""


def count(plugin: str, kind: str, times: int = 1) -> None:
    """Count failures of a plugin; "" is the server."""
    assert kind in KINDS
    FAILURES.labels(plugin or SERVER, kind).inc(times)


def logger_of(plugin: str) -> logging.Logger:
    """Return the logger for messages about a plugin, or about the server if it is ""."""
    return plugin_logger(plugin) if plugin else server_logger()


def report(plugin: str, kind: str, what: str, error: BaseException) -> None:
    """Count and log a plugin's exception; the traceback is logged once per line of code."""
    count(plugin, kind)
    shown = error if is_news(error) else None
    logger_of(plugin).error("%s: %s", what, describe(error), exc_info=shown)


@contextlib.contextmanager
def reported(plugin: str, what: str) -> Iterator[None]:
    """Report an exception of the block, so that the background task that has it goes on.

    Otherwise the work would end unnoticed: asyncio logs the exception of a task that the plugin
    still refers to only when the plugin is freed.
    """
    try:
        yield
    except Exception as error:
        report(plugin, "task", what, error)


_lines_seen: set[tuple[str, int]] = set()


def is_news(error: BaseException) -> bool:
    """Return whether this is the first exception from its line of code."""
    traceback = error.__traceback__
    if traceback is None or isinstance(error, asyncio.CancelledError):
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code_line = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    if code_line in _lines_seen:
        return False
    _lines_seen.add(code_line)
    return True
