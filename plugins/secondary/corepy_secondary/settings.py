"""`Settings`: one *secondary* directive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corepy.plugin import Fallthrough

if TYPE_CHECKING:
    from corepy.plugin import ZoneMatcher
    from corepy_secondary.fetching import Primary
    from corepy_secondary.store import Store


@dataclass(slots=True)
class Settings:
    """One directive: the zones, their primary servers, and the options."""

    origins: tuple[bytes, ...] = ()
    primaries: tuple[Primary, ...] = ()
    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    store: Store | None = None
    members: ZoneMatcher | None = None
    """The zones that a catalog may list; None if the zones are not catalogs."""
