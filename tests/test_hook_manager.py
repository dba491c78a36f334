"""Registering thousands of plugins of one class: the same hooks as with pluggy, without its search."""

import types

import pluggy
import pytest

from corepy.plugin import HookSpecs, hookimpl
from corepy.plugin.hooks import PROJECT
from corepy.server.build.generation import Generation, HookError
from corepy.server.build.hookmanager import HookManager


class Plain:
    @hookimpl
    def ready(self):
        return True

    @hookimpl
    def stopping(self, context):
        """Not called."""


class Ordered(Plain):
    @hookimpl(tryfirst=True)
    def ready(self):
        return True


class Last(Plain):
    @hookimpl(trylast=True)
    def ready(self):
        return True


class Renamed:
    @hookimpl(specname="ready")
    def is_up(self):
        return True


class Slotted:
    __slots__ = ("callback",)

    def __init__(self, callback=None):
        self.callback = callback

    @hookimpl
    def ready(self):
        return True


class Without:
    pass


def with_own_hook():
    plugin = Plain()
    vars(plugin)["stopping"] = types.MethodType(hookimpl(lambda self: None), plugin)
    return plugin


def with_own_function():
    plugin = Plain()
    plugin.callback = lambda: None
    return plugin


KINDS = [
    Plain,
    Ordered,
    Last,
    Renamed,
    Slotted,
    lambda: Slotted(print),
    Without,
    with_own_hook,
    with_own_function,
]


def implementations(manager):
    return {
        name: [(it.plugin_name, it.argnames, it.opts) for it in caller.get_hookimpls()]
        for name, caller in vars(manager.hook).items()
        if isinstance(caller, pluggy.HookCaller)
    }


def test_the_hooks_are_those_of_pluggy():
    ours, pluggys = HookManager(PROJECT), pluggy.PluginManager(PROJECT)
    for manager in (ours, pluggys):
        manager.add_hookspecs(HookSpecs)
    plugins = [kind() for _ in range(3) for kind in KINDS]
    for number, plugin in enumerate(plugins):
        for manager in (ours, pluggys):
            assert manager.register(plugin, f"it.{number}") == f"it.{number}"
    assert implementations(ours) == implementations(pluggys)
    assert ours.get_plugins() == set(plugins)
    assert ours.hook.ready() == pluggys.hook.ready()
    assert all(map(ours.is_registered, plugins))
    assert not ours.is_registered(Plain())
    for implementation in ours.hook.ready.get_hookimpls():
        assert implementation.function.__self__ is implementation.plugin


def test_only_the_first_of_a_class_is_searched(monkeypatch):
    searched = []
    monkeypatch.setattr(
        HookManager,
        "parse_hookimpl_opts",
        lambda self, plugin, name: (
            searched.append(id(plugin))
            or pluggy.PluginManager.parse_hookimpl_opts(self, plugin, name)
        ),
    )
    generation = Generation()
    plugins = [Plain() for _ in range(200)]
    for plugin in plugins:
        generation.register(plugin, "plain")
        generation.register(plugin, "plain")
    assert set(searched) == {id(plugins[0])}
    assert generation.plugins.hook.ready() == [True] * 200


def test_every_wrong_plugin_of_a_class_is_refused():
    class Wrong:
        @hookimpl
        def redy(self):
            """There is no such hook."""

    generation = Generation()
    for _ in range(3):
        with pytest.raises(HookError, match="unknown hook 'redy'"):
            generation.register(Wrong(), "wrong")
    good, bad = Plain(), Plain()
    bad.redy = hookimpl(lambda: None)
    generation.register(good, "plain")
    with pytest.raises(HookError, match="unknown hook 'redy'"):
        generation.register(bad, "plain")
