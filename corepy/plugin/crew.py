"""The processes that one server consists of, as a plugin may know them.

Where *multisocket* asks for it, a server is several processes that share its addresses: the one
that was started, which *leads*, and those it has started. Each has its own chains, caches and
connections; to the world they are one. A plugin that owns something of the host, or an address that
only one process can have, acts in the leader only. One that does nothing else says so for all of
itself (`acts_once = True` beside `api_version`): it is not even set up in the others. One that has
a handler as well looks at `LifecycleContext.crew.leads`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Crew:
    """A server of one process; the base of all that consist of more."""

    leads: bool = True
    """Whether this process is the one that was started."""

    size: int = 1
    """How many processes share what the machine allows this server."""

    @property
    def followers(self) -> Sequence[int]:
        """The IDs of the processes that this one leads."""
        return ()

    @property
    def is_ready(self) -> bool:
        """Whether all processes that this one leads are there, and their plugins are ready."""
        return True

    def problems(self) -> list[str]:
        """Return a line for each process that holds sockets and does not answer."""
        return []

    async def gather(self) -> None:
        """Bring the metrics up to date with what the other processes have counted."""
