"""Generates the API pages: every public name of the packages that plugin authors import.

A name is public if its package imports it as itself (`from x import Y as Y`), the convention of
type checkers.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Package(NamedTuple):
    """The introduction of one page, its first names, and modules documented as a whole."""

    about: str
    first: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


PACKAGES = {
    "plugin": Package(
        "What a plugin imports. `setup(controller)` is given a"
        " [`Controller`](#corepy.plugin.Controller) and adds [`Handler`](#corepy.plugin.Handler)s"
        " to the chain, or objects with [hooks](#corepy.plugin.HookSpecs).",
        (
            *(
                "Controller",
                "Handler",
                "ObservingHandler",
                "Cacheability",
                "HitCounter",
                "HitListener",
            ),
            *("HookSpecs", "LifecycleContext", "ProcessGroup"),
        ),
        ("corepy.plugin.metrics",),
    ),
    "dns": Package(
        "Messages: the arguments and results of handlers.",
        ("Request", "Reply"),
        ("corepy.dns.names",),
    ),
    "testing": Package(
        "What corepy's own tests are written with, for those of plugins as well.",
        ("serve", "TestServer", "run_command", "Command", "ask", "Upstream"),
        ("corepy.testing.tls", "corepy.testing.netns"),
    ),
}


def public_names(package: str) -> list[str]:
    """Return the public names of `corepy.<package>` in the order of its imports."""
    tree = ast.parse((ROOT / "corepy" / package / "__init__.py").read_text())
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imported for alias in node.names if alias.asname == alias.name]


def render(name: str) -> str:
    """Return the page of `corepy.<name>`."""
    package = PACKAGES[name]
    names = dict.fromkeys((*package.first, *public_names(name)))
    lines = [f"# corepy.{name}", "", package.about, ""]
    lines += [f"::: corepy.{name}.{public}\n" for public in names]
    options = "    options:\n      show_root_full_path: true\n"
    lines += [f"::: {module}\n{options}" for module in package.modules]
    return "\n".join(lines)
