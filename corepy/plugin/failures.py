"""Mistakes of plugins at run time, counted and logged under the plugin's name.

A mistake costs the query or the hook in which it is made, never the process and never the queries
of others. This is for whoever calls into other people's plugins: the server, and plugins that
broadcast hooks.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from corepy.plugin import metrics
from corepy.plugin.errors import describe
from corepy.plugin.log import plugin_logger, server_logger

FAILURES = metrics.counter(
    "corepy_plugin_failures_total",
    "Mistakes of plugins that were contained, by what the plugin was doing.",
    ("plugin", "kind"),
)
KINDS: Final = (
    "exception",  # a query's handler raised, or let through, an exception
    "nonsense",  # it returned something that is no reply to the query
    "timeout",  # it had no answer in time
    "blocked",  # it kept the event loop from everything else
    "setup",  # its import or setup raised, or made something that is no handler
    "hook",  # a hook of its raised, or did not return
    "task",  # a task, a callback or an observer of its raised
)
SERVER: Final = "server"
"""Stands for the plugin where none is to blame."""


def count(plugin: str, kind: str, times: int = 1) -> None:
    """Count mistakes of a plugin; "" is the server."""
    assert kind in KINDS
    FAILURES.labels(plugin or SERVER, kind).inc(times)


def logger_of(plugin: str) -> logging.Logger:
    """Return the logger for lines about a plugin, or about the server if it is ""."""
    return plugin_logger(plugin) if plugin else server_logger()


def report(plugin: str, kind: str, what: str, error: BaseException) -> None:
    """Count and log what a plugin raised; the traceback is shown once per place in the code."""
    count(plugin, kind)
    shown = error if is_news(error) else None
    logger_of(plugin).error("%s: %s", what, describe(error), exc_info=shown)


_places_seen: set[tuple[str, int]] = set()


def is_news(error: BaseException) -> bool:
    """Return whether this is the first exception from its place in the code."""
    traceback = error.__traceback__
    if traceback is None or isinstance(error, asyncio.CancelledError):
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    place = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    if place in _places_seen:
        return False
    _places_seen.add(place)
    return True
