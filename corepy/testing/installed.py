"""The installed plugins, found once: finding them takes longer than most tests of a setup."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from corepy.loading.registry import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.loading.registry import FoundPlugin


def installed() -> Mapping[str, FoundPlugin]:
    """Return the installed plugins by directive, as `find`, which runs again for another path."""
    return _found(tuple(sys.path))


@lru_cache(maxsize=1)
def _found(_path: tuple[str, ...]) -> Mapping[str, FoundPlugin]:
    return find()
