"""Generates the plugin index and the comparison with CoreDNS's plugins from the plugin folders.

`python tools/plugin_index.py` writes `plugins/README.md`, to which the README refers; `make format`
runs it. The documentation site makes its own copies (tools/mkdocs_pages.py).
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plugin_folders import PURPOSES, ROOT, Plugin, plugins

from corepy.loading.order import DIRECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INDEX: Final = ROOT / "plugins/README.md"

_HEAD: Final = """\
# Plugins

The plugins that come with corepy. `corepy -plugins` lists all installed ones, including those of
third parties.
"""
_TABLE: Final = "\n| plugin | what it does |\n| --- | --- |\n"
_ORIGINS: Final = {
    "nodecache": "coredns-nodecache",
    "blocklist": "corepy",
    "no_aaaa": "corepy",
    "search_guard": "corepy",
    "console": "corepy",
}
"""The plugins of the order that are not CoreDNS's own, with the project of each."""


def by_purpose(found: Iterable[Plugin]) -> list[tuple[str, list[Plugin]]]:
    """Return the plugins of each purpose that has any, in the order of PURPOSES."""
    order = list(PURPOSES)
    in_order = sorted(found, key=lambda plugin: (order.index(plugin.purpose), plugin.name))
    return [(name, list(group)) for name, group in groupby(in_order, lambda it: it.purpose)]


def index(found: Iterable[Plugin], link: Callable[[Plugin], str]) -> str:
    """Return the plugin index; `link` returns the target of the link to a plugin's page."""
    parts = [_HEAD]
    for purpose, group in by_purpose(found):
        rows = [f"| [{it.name}]({link(it)}) | {summary(it.readme)} |\n" for it in group]
        parts += [f"\n## {purpose.capitalize()}\n\n{PURPOSES[purpose]}\n", _TABLE, *rows]
    return "".join(parts)


def summary(readme: Path) -> str:
    """Return the description in a plugin README's Name section, without the name."""
    found = re.search(r"## Name\n+\*\w+\* - (.*?)(?:\n\n|\Z)", readme.read_text(), re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def directives(found: Iterable[Plugin]) -> str:
    """Return a table of CoreDNS's directives: those that corepy has, and any that it lacks."""
    here = {plugin.name for plugin in found}
    coredns = [name for name in sorted(DIRECTIVES) if name not in _ORIGINS]
    rows = {"here": [name for name in coredns if name in here]}
    for name, origin in _ORIGINS.items():
        if name in here:
            rows.setdefault(f"here, of {origin}", []).append(name)
    table = "".join(f"| {title} | {_listed(names)} |\n" for title, names in rows.items())
    language = "| part of the language | *import*, snippets, `{$ENV}` and `{%ENV%}` |\n"
    missing = _listed(name for name in coredns if name not in here)
    missing = f"| not here | {missing} |\n" if missing else ""
    return f"| | directives of CoreDNS |\n| --- | --- |\n{table}{language}{missing}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"*{name}*" for name in names)


if __name__ == "__main__":
    INDEX.write_text(index(plugins(), lambda plugin: f"{plugin.name}/README.md"))
