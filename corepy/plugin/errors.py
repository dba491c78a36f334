"""What goes wrong around plugins, split by whose fault it is.

Mistakes in a Corefile are `corepy.corefile.CorefileError`; mistakes of a distribution are
`PluginError`; a host that does not allow what the configuration asks for is a `StartupError`.
"""

from __future__ import annotations


class PluginError(Exception):
    """An installed plugin cannot be used: it is named, with its distribution, and costs its own
    directive only.
    """

    def __init__(self, directive: str, distribution: str, problem: str) -> None:
        super().__init__(f"plugin/{directive} (from {distribution}): {problem}")
        self.directive = directive
        self.distribution = distribution
        self.problem = problem


class OrderError(PluginError):
    """The `before`/`after` wishes of plugins cannot be met: a cycle, or a name that nobody has."""


class CommandError(Exception):
    """An operator's command cannot be carried out: the message is what the operator reads.

    Plugins raise it from the hook `command`.
    """


class StartupError(Exception):
    """The configuration is valid but this host cannot run it now (a port in use, a missing
    privilege).

    Plugins raise it from `before_listen` and `serving`; what the generation had done by then is
    undone and the message is what the operator reads, so it says what to change.
    """
