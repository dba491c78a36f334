"""Which plugins are installed, and how one is loaded: find -> load.

Finding reads the metadata of installed distributions and imports nothing. Loading imports the one
plugin that a Corefile asks for. A broken distribution, or two that claim one directive, cost that
directive a named error and nothing else; that is why pluggy's own loader, which imports a whole
group and stops at the first failure, is not used.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.plugin.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.plugin.controller import Controller

GROUP = "corepy.plugins"
API_VERSION = 1
"""The version of `corepy.plugin` that a plugin is written for; a plugin states it as
`api_version`.
"""


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A directive that an installed distribution offers; nothing of it is imported yet."""

    directive: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint
    rivals: tuple[str, ...] = ()
    """Other distributions that claim the same directive."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin that was imported and speaks our API version."""

    directive: str
    distribution: str
    setup: Callable[[Controller], None]
    before: tuple[str, ...]
    after: tuple[str, ...]


def find(
    distributions: Iterable[importlib.metadata.Distribution] | None = None,
) -> dict[str, FoundPlugin]:
    """Return what is installed by directive, in alphabetical order.

    `distributions` are searched instead of the environment's, for tests.
    """
    claims: dict[str, dict[str, FoundPlugin]] = {}
    for distribution in (
        importlib.metadata.distributions() if distributions is None else distributions
    ):
        entry_points = distribution.entry_points
        for entry in entry_points.select(group=GROUP) if entry_points else ():
            name = distribution.metadata["Name"]
            found = FoundPlugin(entry.name, name, distribution.version, entry)
            claims.setdefault(entry.name, {}).setdefault(name, found)
    return {directive: _settle(claims[directive]) for directive in sorted(claims)}


def _settle(claims: dict[str, FoundPlugin]) -> FoundPlugin:
    first, *others = (claims[name] for name in sorted(claims))
    if not others:
        return first
    rivals = tuple(other.distribution for other in others)
    return FoundPlugin(
        first.directive, first.distribution, first.version, first.entry_point, rivals
    )


def load(found: FoundPlugin) -> LoadedPlugin:
    """Import a plugin and check what it offers; raises `PluginError` whatever is wrong with it."""
    directive, distribution = found.directive, found.distribution
    if found.rivals:
        claimants = ", ".join((distribution, *found.rivals))
        raise PluginError(
            directive,
            claimants,
            "several installed distributions claim this directive; remove all but one",
        )
    try:
        plugin = found.entry_point.load()
    except Exception as error:
        raise PluginError(
            directive, distribution, f"cannot be imported: {type(error).__name__}: {error}"
        ) from error
    version = getattr(plugin, "api_version", None)
    if version != API_VERSION:
        problem = f"is written for plugin API version {version}, this corepy speaks {API_VERSION}"
        raise PluginError(directive, distribution, problem)
    if not callable(getattr(plugin, "setup", None)):
        raise PluginError(directive, distribution, "has no function setup(controller)")
    before, after = (_names(plugin, attribute, found) for attribute in ("before", "after"))
    return LoadedPlugin(directive, distribution, plugin.setup, before, after)


def _names(plugin: object, attribute: str, found: FoundPlugin) -> tuple[str, ...]:
    names = getattr(plugin, attribute, ())
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise PluginError(
            found.directive, found.distribution, f"`{attribute}` must be a tuple of directive names"
        )
    return tuple(names)
