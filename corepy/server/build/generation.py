"""Everything that is built from one Corefile: routers by address, and the plugins behind them.

Building a generation (`builder`) has no side effects on the host. `Server` starts and stops it
through `start_hooks` and `stop_hooks`.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pluggy

from corepy.corefile import suggest
from corepy.loading.registry import describe_failure
from corepy.net.sockets import BindError
from corepy.plugin import CommandError, HookSpecs, StartupError
from corepy.plugin.errors import describe
from corepy.plugin.failures import count, report
from corepy.plugin.hooks import PROJECT
from corepy.server.build.hookmanager import HookManager
from corepy.server.contain.attribution import doing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from corepy.corefile import Corefile, Diagnostic
    from corepy.loading.order import OperatorRule
    from corepy.plugin import LifecycleContext, ListenerConfig
    from corepy.server.build.meaning import BlockMeaning
    from corepy.server.listen.endpoint import Listen
    from corepy.server.listen.router import Router

PATIENCE: Final = {"stopping": 600.0}
PATIENCE_ELSE: Final = 60.0
"""Seconds that a hook may take. `stopping` gets more: it may wait for a lame duck, which the
operator sets.
"""


MAY_WAIT: Final = (
    *("before_listen", "serving", "stopping", "shutdown"),
    *("rehearse", "command", "names_changed"),
)
"""The hooks that may be coroutine functions."""


class HookError(Exception):
    """A plugin implements an unknown hook, or a known hook with unknown parameters."""


class Plan(NamedTuple):
    """The input from which a generation is built; it can be sent to another process."""

    corefile: Corefile
    default_port: int
    hosts: list[list[str]]
    """The addresses of each server block, as resolved when the generation was first built."""

    rules: list[OperatorRule]
    """The operator's rules for the order of the chain."""


@dataclass(slots=True)
class Generation:
    """The routers, settings and plugins that one Corefile describes."""

    routers: dict[Listen, Router] = field(default_factory=dict)
    settings: dict[Listen, ListenerConfig] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """The Corefile, the files that it imports, and the files that plugins read."""

    sockets: dict[Listen, int] = field(default_factory=dict)
    """For each address, the number of processes that listen at it, each with its own sockets."""

    blocks: list[BlockMeaning] = field(default_factory=list)
    """The server blocks, with the inputs of their replies."""

    plan: Plan | None = None
    """The input of the build, from which other processes build the same generation."""

    warnings: list[Diagnostic] = field(default_factory=list)
    plugins: HookManager = field(default_factory=lambda: _new_manager())
    _registered: int = 0
    _valid_types: set[type] = field(default_factory=set)
    """The classes whose hooks passed the checks of `register`."""

    def register(self, plugin: object, directive: str) -> None:
        """Register the hooks of `plugin`; `directive` names it in errors.

        Raises `HookError`, or an exception of the plugin's own attributes while they are inspected.
        """
        if self.plugins.is_registered(plugin):
            return
        is_known = type(plugin) in self._valid_types and self.plugins.is_known_kind(plugin)
        self._registered += 1
        name = f"{directive}.{self._registered}"
        try:
            self.plugins.register(plugin, name)
        except pluggy.PluginValidationError as error:
            raise HookError(" ".join(str(error).split())) from error
        if is_known:
            return
        for caller in self.plugins.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                known = [it for it in dir(HookSpecs) if not it.startswith("_")]
                near = suggest(caller.name, known)
                hint = f"did you mean {near!r}?" if near else f"hooks: {', '.join(known)}"
                raise HookError(f"unknown hook {caller.name!r} ({hint})")
            function = getattr(plugin, caller.name, None)
            if caller.name not in MAY_WAIT and inspect.iscoroutinefunction(function):
                raise HookError(f"the hook {caller.name!r} must be an ordinary function")
        self._valid_types.add(type(plugin))

    def time_limits(self) -> list[float]:
        """Return the time limits of the server blocks in seconds, 0 for blocks without one."""
        return [route.time_limit for router in self.routers.values() for route in router.routes]

    async def start_hooks(self, hook: str, context: LifecycleContext) -> None:
        """Call a starting hook of all plugins in chain order.

        Raises `StartupError` at the first one that fails.
        """
        for implementation in self._implementations(hook):
            _, error = await _call(hook, implementation, {"context": context})
            if error is None:
                continue
            name = directive_of(implementation)
            if isinstance(error, StartupError | BindError):
                raise StartupError(f"plugin/{name}: {error}") from error
            count(name, "hook")
            raise StartupError(f"plugin/{name}: {describe_failure(name, error)}") from error

    async def stop_hooks(
        self, hook: str, context: LifecycleContext, after: str | None = None
    ) -> None:
        """Call a stopping hook of all plugins in reverse chain order.

        A failure is logged, and the other plugins are still called. With `after`, only the plugins
        that also implement the hook of that name are called.
        """
        started = None if after is None else [it.plugin for it in self._implementations(after)]
        for implementation in reversed(self._implementations(hook)):
            if started is not None and implementation.plugin not in started:
                continue
            _, error = await _call(hook, implementation, {"context": context})
            if error is not None:
                report(directive_of(implementation), "hook", f"{hook} failed", error)

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return the plugins' results for an operator's command, each with its directive.

        Raises `CommandError` at the first plugin that fails.
        """
        results = []
        for implementation in self._implementations("command"):
            directive = directive_of(implementation)
            given = {"name": name, "argument": argument}
            value, error = await _call("command", implementation, given)
            if isinstance(error, CommandError):
                raise error
            if error is not None:
                report(directive, "hook", f"command {name} failed", error)
                raise CommandError(f"plugin/{directive}: {describe(error)}") from error
            if value is not None:
                results.append({"plugin": directive, "value": value})
        return results

    async def forget_names(self, is_changed: Callable[[bytes], bool]) -> None:
        """Call the hook `names_changed` of all plugins; a failure is logged."""
        for implementation in self._implementations("names_changed"):
            given = {"is_changed": is_changed}
            _, error = await _call("names_changed", implementation, given)
            if error is not None:
                report(directive_of(implementation), "hook", "names_changed failed", error)

    def _implementations(self, hook: str) -> Sequence[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self.plugins.hook, hook)
        return caller.get_hookimpls()


def directive_of(implementation: pluggy.HookImpl) -> str:
    """Return the directive of the plugin that implements a hook."""
    return implementation.plugin_name.rpartition(".")[0]


def _new_manager() -> HookManager:
    manager = HookManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


async def _call(
    hook: str, implementation: pluggy.HookImpl, given: Mapping[str, Any]
) -> tuple[Any, BaseException | None]:
    """Call one implementation; return its result and its exception.

    The exception may be of any kind; it is `TimeoutError` if the hook exceeds its time limit.
    """
    try:
        with doing(directive_of(implementation)):
            result = implementation.function(*(given[name] for name in implementation.argnames))
    except BaseException as error:
        return None, error
    if not inspect.isawaitable(result):
        return result, None
    limit = PATIENCE.get(hook, PATIENCE_ELSE)
    task = asyncio.ensure_future(_outcome(result))
    try:
        await asyncio.wait((task,), timeout=limit)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        return task.result()
    task.cancel()
    return None, TimeoutError(f"{hook} has not returned within {limit:g} s")


async def _outcome(awaited: Any) -> tuple[Any, BaseException | None]:
    """Return the result of `awaited` and its exception.

    The exception must not leave the task: SystemExit raised in a task would end the process.
    """
    try:
        return await awaited, None
    except BaseException as error:
        return None, error
