"""Errors related to plugins, by the party at fault.

`corepy.corefile.CorefileError` is an error in a Corefile, `PluginError` one in an installed
distribution. `StartupError` means that the host does not permit the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.corefile import Token

_LONGEST = 500


def describe(error: BaseException) -> str:
    """Return an exception as one line for a log: its type and message, if it has a usable one."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except BaseException as failure:  # its code is that of a third party
        text = f"(its message cannot be formatted: {type(failure).__name__})"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return f"{name}: {text}" if text else name


def printable_line(text: str, most: int, mark: str = "...") -> str:
    """Return text from another host as one line of printable characters, for a message or a log.

    `mark` follows the first `most` characters of a longer line.
    """
    line = " ".join("".join(it if it.isprintable() else " " for it in text).split())
    return line if len(line) <= most else f"{line[:most]}{mark}"


class PluginError(Exception):
    """An installed plugin cannot be used; only its own directive is affected.

    The message names the directive and the distribution.
    """

    def __init__(self, directive: str, distribution: str, problem: str) -> None:
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin/{directive}{origin}: {problem}")
        self.directive = directive
        self.distribution = distribution
        self.problem = problem


class OrderError(PluginError):
    """Order constraints contradict each other, or name an unknown directive.

    They are those of third-party plugins and the operator.
    """

    def __init__(
        self, directive: str, distribution: str, problem: str, token: Token | None = None
    ) -> None:
        """Take the constraint's `token` in the operator's file, if that is at fault."""
        super().__init__(directive, distribution, problem)
        self.token = token


class CommandError(Exception):
    """An operator's command failed; the message is shown to the operator.

    Plugins raise it from the hook `command`.
    """


class UnknownCommandError(CommandError):
    """No plugin of the server implements the operator's command."""


class StartupError(Exception):
    """The configuration is valid, but cannot run on this host now.

    For example, a port is in use or a privilege is missing. Plugins raise it from `before_listen`
    and `serving`. The generation is rolled back and the message is shown to the operator, so it
    should name the change to make.
    """
