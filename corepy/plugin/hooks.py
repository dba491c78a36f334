"""The hooks of a server generation, which plugins implement in addition to handlers (pluggy).

A *generation* is everything built from one Corefile. Its plugin manager contains the objects that
plugins passed to `Controller.register` and all handlers of its chains. A hook is called on every
one of them that implements it with `@hookimpl`. Parsing and `setup` never call a hook: only hooks
may have side effects.

The life of a generation, in order; the first four may be coroutine functions:

    before_listen -> (sockets bound, swapped, answering) -> serving -> ... -> stopping -> (drained)
    -> shutdown

During its life `command` may be called at any time.

On a reload, the first two hooks of the new generation are called while the old one is still active.
A plugin that manages a resource of the host thus gets the new configuration before the old one is
removed.

If a server has several processes (`corepy.plugin.process_group`), each has a generation of its own
and calls its hooks. In the leader, `serving` is called when all of them answer queries, and
`before_listen` before any socket is bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pluggy

from corepy.plugin.errors import CommandError
from corepy.plugin.process_group import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from corepy.dns import Reply, Request

PROJECT = "corepy"
API_VERSION: Final = 1
"""The version of this package's API; a plugin declares its own as `api_version`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


async def _forget_nothing(is_changed: Callable[[bytes], bool]) -> None:
    """Outside of a server there are no caches."""


async def _discard_nothing() -> None:
    """Outside of a server there are no snapshots."""


async def no_command(name: str, argument: Any) -> Any:
    """Outside of a server there are no commands."""
    raise CommandError(f"no server runs that could carry out {name!r}")


@dataclass(slots=True)
class LifecycleContext:
    """The argument of the lifecycle hooks."""

    plugins: pluggy.PluginManager
    """This generation's plugins, to call hooks on: `context.plugins.hook.ready()`.

    Each is registered as its directive, a dot and a number, such as "forward.1".
    """

    reload: Callable[[str], Awaitable[bool]]
    """Load the Corefile again and switch to it.

    Takes the reason, for the log; returns whether it succeeded. The calling task must survive the
    `shutdown` of its own generation.
    """

    forget: Callable[[], None]
    """Clear the packet caches: their replies are no longer correct."""

    files: Sequence[Path] = ()
    """The files of this generation: the Corefile, its imports, and files that plugins read."""

    replaces: bool = False
    """At start: True if this generation replaces a running one (a reload)."""

    final: bool = True
    """At stop: False if a new generation has replaced this one, True if the process ends."""

    offline: bool = False
    """Rehearsal: no packet may leave this process, so names cannot be resolved."""

    addresses: Sequence[str] = ()
    """The listen addresses of this generation, as "dns://127.0.0.1:53".

    A port that the kernel chooses is 0 in `before_listen`, and known from `serving` on.
    """

    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    """This server's processes; `process_group.is_leader` is whether this one acts for all."""

    forget_names: Callable[[Callable[[bytes], bool]], Awaitable[None]] = _forget_nothing
    """Remove the replies for some names from all caches: they are no longer correct.

    Takes the predicate of the hook `names_changed`, calls the hook of all plugins, and clears the
    packet caches. A failure of a plugin is logged.
    """

    discard_snapshots: Callable[[], Awaitable[None]] = _discard_nothing
    """Discard what is stored of the state of handlers for the next process, and store it anew.

    To be called when a part of the state was removed that must not return (`StatefulHandler`).
    """

    run_command: Callable[[str, Any], Awaitable[Any]] = no_command
    """Carry out a command on the whole server, as if it came from the control socket.

    Takes the name, such as "stats" or "explain", and the argument; returns plain data. Raises
    `CommandError`.
    """


class HookSpecs:
    """The signatures that implementations may use (any subset of the parameters, by name)."""

    @hookspec
    def before_listen(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Prepare the host and the plugin, before any new socket is bound (CoreDNS: OnStartup).

        Raises `StartupError` to refuse: no socket is opened, and `shutdown` is called on all
        plugins of this generation.
        """

    @hookspec
    def serving(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Start background work: all sockets are bound, and this generation answers queries."""

    @hookspec
    def stopping(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Redirect traffic before the drain, while still answering (rules, lame duck)."""

    @hookspec
    def shutdown(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Release resources, after draining or after a failed start."""

    @hookspec
    def rehearse(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Prepare to answer the single query of `corepy explain -conf`, instead of all other hooks.

        There is no server: do not listen on sockets, and do not change the host, files or caches of
        other processes. A plugin that answers without any hook does not need this one. A plugin
        that prepares memory in `before_listen` does so here. `shutdown` is called afterwards on
        plugins that implement this. Raises `StartupError` where a start would be refused.
        """

    @hookspec
    def ready(self) -> bool:
        """Return whether this plugin is ready to serve (CoreDNS: ready.Readiness)."""
        return True

    @hookspec
    def metadata(self, request: Request) -> Mapping[str, str] | None:
        """Return labels for this query, such as {"forward/upstream": "..."}.

        CoreDNS: metadata.Provider.
        """

    @hookspec
    def command(self, name: str, argument: Any) -> Awaitable[Any] | Any | None:
        """Execute an operator's command from the control socket, such as "cache/purge".

        `argument` and the result are JSON values. The client gets the results of all plugins,
        including those of a generation that is still draining. None means that the command is not
        for this plugin. May be a coroutine function. Raises `CommandError` with a message for the
        operator. The client is `corepy.plugin.control_client`.
        """

    @hookspec
    def status(self) -> Mapping[str, Any] | None:
        """Return the state of this plugin for an operator, as plain data for JSON.

        Called when an operator asks (`corepy status`, `corepy top`). It must not block. Some keys
        have a common meaning, so that they are shown alike for all plugins; times are in seconds,
        sizes in bytes:

        * "state": one or two words, and "problems": a list of lines, empty if all is well;
        * "cache": an object with "entries", "capacity", "hits", "misses", "stale", "evictions",
          "bytes" and "limit";
        * "upstreams": a list of objects with "address", "protocol", "state" ("up", "suspect" or
          "down"), "rtt", "queries", "failures" and "in_flight".

        Each may be left out. Others are shown as they are. In a server of several processes,
        numbers of all processes are added up. None means that there is nothing to show.
        """

    @hookspec
    def names_changed(self, is_changed: Callable[[bytes], bool]) -> Awaitable[None] | None:
        """Remove the stored replies to queries for the names that `is_changed` selects.

        The data of these names has changed in a plugin. A name is in wire form and lower case.
        Replies to earlier queries that arrive later should not be stored, either. The hook may be a
        coroutine function. `LifecycleContext.forget_names` calls it.
        """

    @hookspec(firstresult=True)
    def dropped(self, request: Request, reply: Reply) -> bool | None:
        """Count a query that no server block answers, with its refusal.

        The first plugin that returns True has counted it for all (CoreDNS: errorAndMetricsFunc).
        """
