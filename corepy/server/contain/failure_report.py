"""Logs and counts plugins' failures, in queries and in background work.

The plugin at fault is found in the stack (`corepy.server.contain.attribution`);
`corepy.plugin.failures` has the counters and loggers.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics
from corepy.plugin.errors import describe
from corepy.plugin.failures import SERVER, count, is_news, logger_of, report
from corepy.plugin.handler import SERVFAIL
from corepy.server.contain.attribution import Attribution, of_error

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import Handler

PASSED_ON: Final = (Exception, CancelledError, GeneratorExit)
"""The exceptions that do not end the process."""

PANICS = metrics.counter("coredns_panics_total", "Count of unhandled exceptions in plugins.")


class ContractError(Exception):
    """A handler violated its contract; the log line contains the message."""

    def __init__(self, problem: str, handler: Handler) -> None:
        super().__init__(problem)
        self.handler = handler


class InvalidReplyError(ContractError):
    """A handler returned an object that is not a reply to the query."""


class EscapeError(ContractError):
    """A handler raised an exception that would end the process, such as SystemExit."""


def report_failure(
    request: Request,
    error: BaseException,
    handler: Handler | None = None,
    outcome: str = "answered SERVFAIL",
) -> Reply:
    """Log an exception raised by a plugin, and return the SERVFAIL for the client.

    The plugin is found in the stack; `handler` is at fault if none is there. The log line has the
    traceback the first time that an exception comes from a place in the code, and each time where
    *debug* or *errors* with `stacktrace` is used. `outcome` is what the client gets.
    """
    found = _at_fault(error, handler)
    is_invalid_reply = isinstance(error, InvalidReplyError)
    PANICS.labels().inc()
    count(found.plugin, "nonsense" if is_invalid_reply else "exception")
    what = _what(error)
    debug = found.handler is not None and found.handler.debug
    shown = not is_invalid_reply and (is_news(error) or debug)
    logger_of(found.plugin).error(
        "%s %s from %s: %s; %s",
        request.name,
        request.type,
        request.remote[0],
        what,
        outcome,
        exc_info=error if shown else None,
    )
    return substitute(request, f"plugin/{found.plugin or SERVER}: {what}")


def _at_fault(error: BaseException, handler: Handler | None) -> Attribution:
    if isinstance(error, ContractError):
        return Attribution(error.handler.name, "", error.handler)
    found = of_error(error)
    if found.plugin or handler is None:
        return found
    return Attribution(handler.name, found.where, handler)


def _what(error: BaseException) -> str:
    if isinstance(error, ContractError):
        return str(error)
    return describe(error) if isinstance(error, PASSED_ON) else f"raised {describe(error)}"


def substitute(request: Request, reason: str | None = None) -> Reply:
    """Return the SERVFAIL for a chain that has no reply of its own."""
    reply = request.error(SERVFAIL, reason)
    reply.is_substitute = True
    reply.answered_by = ""
    return reply


def report_background(
    error: BaseException, what: str, plugin: str = "", kind: str = "task"
) -> None:
    """Log and count an exception raised outside of a query.

    `plugin` is at fault if given, otherwise the one found in the stack.
    """
    report(plugin or of_error(error).plugin, kind, what, error)
