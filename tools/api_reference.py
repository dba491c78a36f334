"""The API pages: every public name of the packages that plugin authors import.

A name is public if its package imports it as itself (`from x import Y as Y`), as type checkers have it.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "plugin": (
        "What a plugin imports. Start with [`Controller`](#corepy.plugin.Controller), which `setup` is given, and"
        " [`Handler`](#corepy.plugin.Handler), which it adds to the chain.",
        ("corepy.plugin.metrics",),
    ),
    "dns": ("Messages: what a handler gets, and what it returns.", ("corepy.dns.names",)),
    "testing": (
        "What corepy's own tests are written with, for those of plugins as well.",
        ("corepy.testing.tls", "corepy.testing.netns"),
    ),
}
"""For each package a line about it, and the modules that are used by their own names."""


def public_names(package: str) -> list[str]:
    """Return the public names of `corepy.<package>`, as it lists them."""
    tree = ast.parse((ROOT / "corepy" / package / "__init__.py").read_text())
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imported for alias in node.names if alias.asname == alias.name]


def render(package: str) -> str:
    """Return the page of `corepy.<package>`."""
    about, modules = PACKAGES[package]
    lines = [f"# corepy.{package}", "", about, ""]
    lines += [f"::: corepy.{package}.{name}\n" for name in public_names(package)]
    lines += [
        f"::: {module}\n    options:\n      show_root_full_path: true\n" for module in modules
    ]
    return "\n".join(lines)
