"""Finds out which packages of a plugin's extra are missing.

A distribution may contain plugins that need packages which it does not always install. Such a
plugin has an extra of its own name: `pip install 'corepy-dns[geoip]'` installs the packages of
*geoip*.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

_OF_EXTRA: Final = re.compile(r"([\w.-]+)[^;]*;\s*extra\s*==\s*['\"]([\w.-]+)['\"]\s*")
"""A requirement of an extra; those with further conditions are not matched."""


def missing_extra(directive: str, entry_point: EntryPoint) -> str | None:
    """Return the problem and its solution if packages of a plugin's extra are missing, or None."""
    if entry_point.dist is None:
        return None
    missing = list(_missing(entry_point.dist.requires or [], _normalized(directive)))
    if not missing:
        return None
    name = entry_point.dist.metadata["Name"]
    verb = "is" if len(missing) == 1 else "are"
    solution = f"pip install '{name}[{_normalized(directive)}]'"
    return f"needs {', '.join(missing)}, which {verb} not installed: {solution}"


def _missing(requirements: list[str], extra: str) -> Iterator[str]:
    for requirement in requirements:
        found = _OF_EXTRA.fullmatch(requirement)
        if found and _normalized(found[2]) == extra:
            try:
                distribution(found[1])
            except PackageNotFoundError:
                yield found[1]


def _normalized(extra: str) -> str:
    """Return the name of an extra as metadata contain it (PEP 685)."""
    return re.sub(r"[-_.]+", "-", extra).lower()
