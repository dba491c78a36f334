"""Parse the *errors* directive (CoreDNS: plugin/errors/setup.go)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from corepy.plugin import Debug
from corepy_errors.consolidation import Consolidation
from corepy_errors.errors import Errors

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

SHOW_FIRST = "show_first"
LEVELS = {
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


def setup(controller: Controller) -> None:
    """Add the handler."""
    consolidations: list[Consolidation] = []
    options = {
        "stacktrace": lambda: _show_tracebacks(controller),
        "consolidate": lambda: consolidations.append(_consolidate(controller)),
    }
    for _ in controller.single():
        _check_destination(controller)
        controller.options(options)
    controller.add_handler(Errors(consolidations))


def _check_destination(controller: Controller) -> None:
    for argument in controller.arguments(0, 1):
        if argument.text != "stdout":
            hint = "errors go to standard output; only `stdout` may be given"
            raise controller.error(f"invalid log file: {argument.text}", argument, hint)


def _show_tracebacks(controller: Controller) -> None:
    controller.configure(Debug(tracebacks=True))


def _consolidate(controller: Controller) -> Consolidation:
    period, pattern, *options = controller.arguments(2, 4)
    seconds = controller.duration(period)
    level, show_first = _options(controller, options)
    return Consolidation(seconds, controller.pattern(pattern), level, show_first)


def _options(controller: Controller, arguments: list[Token]) -> tuple[int, bool]:
    """Parse `[LEVEL] [show_first]`; returns the level and whether to show the first error."""
    level: int | None = None
    show_first = False
    for argument in arguments:
        if argument.text == SHOW_FIRST:
            show_first = True
        elif argument.text not in LEVELS:
            raise controller.unknown_option([*LEVELS, SHOW_FIRST], argument)
        elif level is not None:
            raise controller.error("multiple log levels specified in consolidate", argument)
        elif show_first:
            message = "log level must come before show_first in consolidate"
            raise controller.error(message, argument)
        else:
            level = LEVELS[argument.text]
    return (logging.ERROR if level is None else level), show_first
