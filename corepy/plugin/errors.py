"""What goes wrong around plugins, split by whose fault it is.

Mistakes in a Corefile are `corepy.corefile.CorefileError`; mistakes of a distribution are
`PluginError`; a host that does not allow what the configuration asks for is a `StartupError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.corefile import Token

_LONGEST = 500


def describe(error: BaseException) -> str:
    """Return an exception in one line for a log: its type and what it says, if it can say it."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception as failure:
        text = f"(its text cannot be had: {type(failure).__name__})"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return f"{name}: {text}" if text else name


class PluginError(Exception):
    """An installed plugin cannot be used: it is named, with its distribution, and costs its own
    directive only.
    """

    def __init__(self, directive: str, distribution: str, problem: str) -> None:
        origin = f" (from {distribution})" if distribution else ""
        super().__init__(f"plugin/{directive}{origin}: {problem}")
        self.directive = directive
        self.distribution = distribution
        self.problem = problem


class OrderError(PluginError):
    """The `before`/`after` wishes of plugins, or of the operator, cannot be met: a circle, or a
    name that nobody has.
    """

    def __init__(
        self, directive: str, distribution: str, problem: str, token: Token | None = None
    ) -> None:
        """`token` is the place in the operator's file, if that is what cannot be met."""
        super().__init__(directive, distribution, problem)
        self.token = token


class CommandError(Exception):
    """An operator's command cannot be carried out: the message is what the operator reads.

    Plugins raise it from the hook `command`.
    """


class UnknownCommandError(CommandError):
    """No plugin of the server knows the operator's command."""


class StartupError(Exception):
    """The configuration is valid but this host cannot run it now (a port in use, a missing
    privilege).

    Plugins raise it from `before_listen` and `serving`; what the generation had done by then is
    undone and the message is what the operator reads, so it says what to change.
    """
