"""Everything that is built from one Corefile: who answers where, and the plugins behind it.

Building one (see `builder`) touches nothing of the world. Its life is driven by `Server` through
`start_hooks` and `stop_hooks`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from corepy.net.sockets import BindError
from corepy.plugin import CommandError, HookSpecs, StartupError, plugin_logger
from corepy.plugin.hooks import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corepy.corefile import Diagnostic
    from corepy.plugin import BlockConfig, LifecycleContext
    from corepy.server.endpoint import Listen
    from corepy.server.router import Router


@dataclass(slots=True)
class Generation:
    """See the module."""

    routers: dict[Listen, Router] = field(default_factory=dict)
    settings: dict[Listen, BlockConfig] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """The Corefile, what it imports, and what plugins read."""

    warnings: list[Diagnostic] = field(default_factory=list)
    plugins: pluggy.PluginManager = field(default_factory=lambda: _new_manager())
    _registered: int = 0

    def register(self, plugin: object, directive: str) -> None:
        """Let the hooks of `plugin` take part; `directive` names it in errors."""
        if not self.plugins.is_registered(plugin):
            self._registered += 1
            self.plugins.register(plugin, f"{directive}.{self._registered}")

    async def start_hooks(self, hook: str, context: LifecycleContext) -> None:
        """Call a starting hook of all plugins, in chain order; raises `StartupError` at the first
        that fails.
        """
        for implementation in self._implementations(hook):
            try:
                await _call(implementation, {"context": context})
            except (StartupError, BindError) as error:
                raise StartupError(f"plugin/{directive_of(implementation)}: {error}") from error
            except Exception as error:
                name = directive_of(implementation)
                raise StartupError(f"plugin/{name}: {type(error).__name__}: {error}") from error

    async def stop_hooks(
        self, hook: str, context: LifecycleContext, after: str | None = None
    ) -> None:
        """Call a stopping hook of all plugins, in reverse chain order; failures are logged and the
        rest go on.

        With `after`, only of those that implement the hook of that name as well.
        """
        started = None if after is None else [it.plugin for it in self._implementations(after)]
        for implementation in reversed(self._implementations(hook)):
            if started is not None and implementation.plugin not in started:
                continue
            try:
                await _call(implementation, {"context": context})
            except Exception:
                plugin_logger(directive_of(implementation)).exception("%s failed", hook)

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return what the plugins answer to an operator's command, each with its directive.

        Raises `CommandError` at the first that fails.
        """
        results = []
        for implementation in self._implementations("command"):
            directive = directive_of(implementation)
            try:
                value = await _call(implementation, {"name": name, "argument": argument})
            except CommandError:
                raise
            except Exception as error:
                plugin_logger(directive).exception("command %s failed", name)
                problem = f"plugin/{directive}: {type(error).__name__}: {error}"
                raise CommandError(problem) from error
            if value is not None:
                results.append({"plugin": directive, "value": value})
        return results

    def _implementations(self, hook: str) -> Sequence[pluggy.HookImpl]:
        caller: pluggy.HookCaller = getattr(self.plugins.hook, hook)
        return caller.get_hookimpls()


def directive_of(implementation: pluggy.HookImpl) -> str:
    """Return the directive whose plugin implements a hook."""
    return implementation.plugin_name.rpartition(".")[0]


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


async def _call(implementation: pluggy.HookImpl, given: Mapping[str, Any]) -> Any:
    result = implementation.function(*(given[name] for name in implementation.argnames))
    return await result if inspect.isawaitable(result) else result
