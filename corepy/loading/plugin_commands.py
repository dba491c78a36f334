"""Finds and loads the commands `corepy NAME` of the installed distributions.

The built-in commands and those of plugins are entry points of the same group. A broken command, or
one that two distributions provide, makes only that command fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from corepy.loading.extras import missing_extra
from corepy.loading.registry import FoundPlugin, find, rivalry
from corepy.plugin.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP: Final = "corepy.commands"


class UnusableCommandError(Exception):
    """A command cannot be loaded; the message states why."""


def commands() -> dict[str, FoundPlugin]:
    """Return the installed commands by name."""
    return find(group=GROUP)


def load_command(found: FoundPlugin) -> Callable[[list[str]], int]:
    """Return the function of a command; raises `UnusableCommandError`."""
    claimants = (found.distribution, *found.rivals)
    origin = f"(from {', '.join(claimants)})"
    if found.rivals:
        raise UnusableCommandError(f"{origin} {rivalry(claimants, 'command')}")
    try:
        function = found.entry_point.load()
    except Exception as error:
        problem = _missing_library(found) or f"{origin} cannot be imported: {describe(error)}"
        raise UnusableCommandError(problem) from error
    if not callable(function):
        raise UnusableCommandError(f"{origin} {found.entry_point.value} is not a function")
    return cast("Callable[[list[str]], int]", function)


def _missing_library(command: FoundPlugin) -> str | None:
    """Return the problem if the extra of a plugin in the package of the command is missing."""
    for directive, plugin in find().items():
        if plugin.package == command.package:
            problem = missing_extra(directive, plugin.entry_point)
            if problem:
                return problem
    return None
