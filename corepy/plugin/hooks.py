"""The hooks of a server generation: what plugins may implement beside the chain (pluggy).

A *generation* is everything built from one Corefile. Its plugin manager knows the objects that
plugins gave to `Controller.register` and all handlers of its chains. Hooks are broadcast to every
one of them that implements the hook with `@hookimpl`. Parsing and `setup` never call a hook: only
these touch the world.

The life of a generation, in order; the first four may be coroutine functions:

    before_listen -> (sockets bound, swapped, answering) -> serving -> ... -> stopping -> (drained)
    -> shutdown

While it lives `command` may be called at any time.

On a reload the new generation goes through the first two while the old one still stands, so a
plugin that owns something of the host sees the new wish before the old one is withdrawn.

Where a server is several processes (`corepy.plugin.crew`), each has a generation of its own and
calls its hooks. `serving` is called in the leader once all of them answer, and `before_listen`
before any socket is bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from corepy.plugin.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from corepy.dns import Reply, Request

PROJECT = "corepy"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(slots=True)
class LifecycleContext:
    """What a lifecycle hook is told."""

    plugins: pluggy.PluginManager
    """This generation's plugins, to broadcast to: `context.plugins.hook.ready()`. Each is
    registered as its directive, a dot and a number, such as "forward.1".
    """

    reload: Callable[[str], Awaitable[bool]]
    """Load the Corefile anew and let it take over. Takes the reason, for the log; returns whether
    it did. The task that calls it must survive the `shutdown` of its own generation.
    """

    forget: Callable[[], None]
    """Let the packet caches forget every reply: what they repeat is no longer true."""

    files: Sequence[Path] = ()
    """What this generation was read from: the Corefile, its imports, and files that plugins
    read.
    """

    replaces: bool = False
    """Start: True when this generation takes over from one that runs (a reload)."""

    final: bool = True
    """Stop: False when a successor has taken over, True when the process ends."""

    offline: bool = False
    """Rehearsal: no question may leave this process, so no name can be looked up."""

    addresses: Sequence[str] = ()
    """What this generation listens on, as "dns://127.0.0.1:53". A port that the system chooses is 0
    in `before_listen`, and known from `serving` on.
    """

    crew: Crew = field(default_factory=Crew)
    """The processes of this server, and whether this is the one that acts for all of them."""


class HookSpecs:
    """The signatures that implementations may use (any subset of the parameters, by name)."""

    @hookspec
    def before_listen(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Prepare the host and the plugin, before any new socket is bound (CoreDNS: OnStartup).

        Raise `StartupError` to refuse: no socket is opened, and `shutdown` is called on everything
        of this generation.
        """

    @hookspec
    def serving(self, context: LifecycleContext) -> Awaitable[None] | None:
        """All sockets are bound and queries are answered by this generation."""

    @hookspec
    def stopping(self, context: LifecycleContext) -> Awaitable[None] | None:
        """About to drain: still answering. The place to turn traffic away (rules, lame duck)."""

    @hookspec
    def shutdown(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Drained, or never started: give back what was taken. Must cope with being called after a
        failed start.
        """

    @hookspec
    def rehearse(self, context: LifecycleContext) -> Awaitable[None] | None:
        """Prepare to answer the one question of `corepy explain -conf`, in place of all else.

        There is no server: no socket may be opened to listen at, and nothing of the host, no file
        and nobody's cache may change. A plugin that answers without any hook needs none of it; one
        that does what `before_listen` does in memory does it here. `shutdown` is called afterwards
        on plugins that implement this. Raise `StartupError` where a start would be refused.
        """

    @hookspec
    def ready(self) -> bool:
        """Return whether this plugin can do its work (CoreDNS: ready.Readiness)."""
        return True

    @hookspec
    def metadata(self, request: Request) -> Mapping[str, str] | None:
        """Return labels for this query, such as {"forward/upstream": "..."} (CoreDNS:
        metadata.Provider).
        """

    @hookspec
    def command(self, name: str, argument: Any) -> Awaitable[Any] | Any | None:
        """Carry out an operator's command that came to the control socket, such as "cache/purge".

        `argument` and the result are what JSON can say; the results of all plugins, those of a
        generation that still drains included, are collected for the client. None means that the
        command is not for this plugin. May be a coroutine function. Raise `CommandError` for what
        the operator has to know. See `corepy.plugin.control` for the client's side.
        """

    @hookspec(firstresult=True)
    def dropped(self, request: Request, reply: Reply) -> bool | None:
        """Count a query that no server block answers, with the refusal that it gets.

        The first plugin that returns True has done so for all (CoreDNS: errorAndMetricsFunc).
        """
