"""Finds the installed plugins and loads single ones.

Finding reads the metadata of installed distributions and imports none of them. Loading imports the
one plugin that a Corefile uses. A broken distribution, or two that claim the same directive, make
only that directive fail, with a specific error. pluggy's own loader is not used, because it imports
a whole group and stops at the first failure.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corepy.loading.extras import missing_extra
from corepy.plugin.errors import PluginError, describe
from corepy.plugin.hooks import API_VERSION
from corepy.plugin.log import server_logger
from corepy.release import DISTRIBUTION, FORMER_DISTRIBUTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corepy.plugin.controller import Controller

GROUP = "corepy.plugins"


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A directive that an installed distribution provides, not yet imported."""

    directive: str
    """The name of the entry point; in other groups than that of plugins, not a directive."""

    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint
    rivals: tuple[str, ...] = ()
    """Other distributions that claim the same directive."""

    @property
    def package(self) -> str:
        """The top-level package that contains it."""
        return self.entry_point.value.partition(":")[0].partition(".")[0]


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """An imported plugin with a compatible API version."""

    directive: str
    distribution: str
    setup: Callable[[Controller], None]
    before: tuple[str, ...]
    after: tuple[str, ...]
    acts_once: bool = False
    """Whether only one process of a server sets it up."""


_packages: dict[str, str] = {}
"""The directive of each top-level package that was imported for a plugin."""


_entry_points: dict[str, importlib.metadata.EntryPoint] = {}
"""The entry point of each directive that was imported."""


def plugin_of_module(name: str) -> str:
    """Return the directive of the plugin that contains the module `name`; "" for others."""
    return _packages.get(name.partition(".")[0], "")


def find(
    distributions: Iterable[importlib.metadata.Distribution] | None = None, group: str = GROUP
) -> dict[str, FoundPlugin]:
    """Return the installed plugins by directive, in alphabetical order.

    `distributions` are searched instead of the environment's, for tests. With another `group` of
    entry points, return what is installed there.
    """
    claims: dict[str, dict[str, FoundPlugin]] = {}
    for distribution in (
        importlib.metadata.distributions() if distributions is None else distributions
    ):
        try:
            offered = list(_offers(distribution, group))
        except Exception as error:  # any installed distribution may be broken, a plugin or not
            where = getattr(distribution, "_path", "a distribution")
            server_logger().warning("%s cannot be read: %s", where, describe(error))
            continue
        for found in offered:
            claims.setdefault(found.directive, {}).setdefault(found.distribution, found)
    return {directive: _settle(claims[directive]) for directive in sorted(claims)}


def _offers(distribution: importlib.metadata.Distribution, group: str) -> Iterator[FoundPlugin]:
    entry_points = distribution.entry_points
    entries = list(entry_points.select(group=group)) if entry_points else []
    if not entries:
        return
    metadata = distribution.metadata  # parsed at each access, and one may offer many plugins
    # Checked first: a later Python raises KeyError for a missing field, and 3.13 warns.
    name, version = (
        (field in metadata and metadata[field]) or "unknown" for field in ("Name", "Version")
    )
    for entry in entries:
        yield FoundPlugin(entry.name, name, version, entry)


def _settle(claims: dict[str, FoundPlugin]) -> FoundPlugin:
    first, *others = (claims[name] for name in sorted(claims))
    if not others:
        return first
    rivals = tuple(other.distribution for other in others)
    return FoundPlugin(
        first.directive, first.distribution, first.version, first.entry_point, rivals
    )


def load(found: FoundPlugin) -> LoadedPlugin:
    """Import a plugin and validate it; raises `PluginError` for any problem."""
    directive, distribution = found.directive, found.distribution
    if found.rivals:
        claimants = (distribution, *found.rivals)
        raise PluginError(directive, ", ".join(claimants), rivalry(claimants, "directive"))
    try:
        plugin = found.entry_point.load()
    except BaseException as error:  # third-party code: its sys.exit() must not end the process
        problem = missing_extra(directive, found.entry_point)
        problem = problem or f"cannot be imported: {describe(error)}"
        raise PluginError(directive, distribution, problem) from error
    _packages[found.package] = directive
    _entry_points[directive] = found.entry_point
    try:
        return _inspected(found, plugin)
    except PluginError:
        raise
    except BaseException as error:  # such as that of a module's __getattr__
        problem = f"its attributes cannot be read: {describe_failure(directive, error)}"
        raise PluginError(directive, distribution, problem) from error


def _inspected(found: FoundPlugin, plugin: Any) -> LoadedPlugin:
    directive, distribution = found.directive, found.distribution
    version = getattr(plugin, "api_version", None)
    if version != API_VERSION:
        problem = f"is written for plugin API version {version}, this corepy supports {API_VERSION}"
        raise PluginError(directive, distribution, problem)
    if not callable(getattr(plugin, "setup", None)):
        raise PluginError(directive, distribution, "has no function setup(controller)")
    before, after = (_names(plugin, attribute, found) for attribute in ("before", "after"))
    once = bool(getattr(plugin, "acts_once", False))
    return LoadedPlugin(directive, distribution, plugin.setup, before, after, once)


def describe_failure(directive: str, error: BaseException) -> str:
    """Return why a loaded plugin raised `error`: packages of its extra may be missing.

    A plugin may import such a package only where it needs it, as in its setup.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None and directive in _entry_points:
        return missing_extra(directive, _entry_points[directive]) or describe(error)
    return describe(error)


def rivalry(claimants: Iterable[str], what: str) -> str:
    """Return the problem that several distributions provide one directive or command (`what`)."""
    if {DISTRIBUTION, FORMER_DISTRIBUTION}.issubset(claimants):
        steps = f"pip uninstall {FORMER_DISTRIBUTION}, then install {DISTRIBUTION} again"
        return f"{FORMER_DISTRIBUTION} is the former name of {DISTRIBUTION}; {steps}"
    return f"several installed distributions claim this {what}; remove all but one"


def _names(plugin: object, attribute: str, found: FoundPlugin) -> tuple[str, ...]:
    names = getattr(plugin, attribute, ())
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise PluginError(
            found.directive, found.distribution, f"`{attribute}` must be a tuple of directive names"
        )
    return tuple(names)
