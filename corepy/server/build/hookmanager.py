"""A pluggy plugin manager for thousands of plugins of a few classes.

pluggy inspects every attribute of each plugin that it registers, and compares it with all plugins
registered before. A Corefile of 5,000 server blocks has 20,000 handlers of a dozen classes. Here
pluggy inspects the first plugin of each class; the others reuse the result.
"""

from __future__ import annotations

import inspect
from types import FunctionType, MemberDescriptorType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from pluggy import HookCaller, HookimplOpts


class _Found(NamedTuple):
    """One hook implementation of a class."""

    attribute: str
    hook: str
    options: HookimplOpts


class _Kind(NamedTuple):
    """The result of registering the first plugin of a class."""

    found: list[_Found]
    slots: list[str]
    """The attributes stored outside of the instance's `__dict__`; they may hold functions."""


class HookManager(pluggy.PluginManager):
    """Registers a plugin in constant time, however many are registered."""

    def __init__(self, project_name: str) -> None:
        """Begin without plugins; `project_name` is the name of pluggy's markers."""
        super().__init__(project_name)
        self._kinds: dict[type, _Kind] = {}
        self._known: dict[int, object] = {}

    def is_registered(self, plugin: object) -> bool:
        """Return whether this very object is registered."""
        return id(plugin) in self._known

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register a plugin as pluggy does; return its name."""
        if name is None or not self.is_known_kind(plugin):
            name = super().register(plugin, name)
            if not isinstance(plugin, type) and not inspect.ismodule(plugin):
                self._kinds.setdefault(type(plugin), self._kind_of(plugin))
        else:
            self._name2plugin[name] = plugin
            for found in self._kinds[type(plugin)].found:
                function = getattr(plugin, found.attribute)
                implementation = pluggy.HookImpl(plugin, name, function, found.options.copy())
                _add(getattr(self.hook, found.hook), implementation)
        self._known[id(plugin)] = plugin
        return name

    def has_own_hooks(self, plugin: object) -> bool:
        """Return whether the object has hook implementations besides those of its class.

        A plugin of the same class must have been registered before.
        """
        marker = f"{self.project_name}_impl"
        values: list[Any] = list(getattr(plugin, "__dict__", {}).values())
        values += [getattr(plugin, slot, None) for slot in self._kinds[type(plugin)].slots]
        return any(
            isinstance(value, FunctionType | MethodType) and hasattr(value, marker)
            for value in values
        )

    def is_known_kind(self, plugin: object) -> bool:
        """Return whether a plugin of this class is registered and this one adds no hooks."""
        return type(plugin) in self._kinds and not self.has_own_hooks(plugin)

    def _kind_of(self, plugin: object) -> _Kind:
        found = []
        for attribute in dir(plugin):
            if attribute in getattr(plugin, "__dict__", ()):
                continue  # belongs to this object alone
            options = self.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                found.append(_Found(attribute, options.get("specname") or attribute, options))
        slots = [
            name
            for each in type(plugin).__mro__
            for name, value in vars(each).items()
            if isinstance(value, MemberDescriptorType)
        ]
        return _Kind(found, slots)


def _add(caller: HookCaller, implementation: pluggy.HookImpl) -> None:
    """Append an implementation to those of the hook.

    pluggy searches its list for the position. The position is the end of the list if neither this
    implementation nor the last one asks for another.
    """
    before: list[pluggy.HookImpl] = caller._hookimpls
    if _is_plain(implementation) and (not before or _is_plain(before[-1])):
        before.append(implementation)
    else:
        caller._add_hookimpl(implementation)


def _is_plain(it: pluggy.HookImpl) -> bool:
    return not (it.wrapper or it.hookwrapper or it.tryfirst or it.trylast)
