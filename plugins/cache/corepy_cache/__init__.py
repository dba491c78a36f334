"""The *cache* plugin: stores replies and answers repeated questions from them; see README.md.

The modules in reading order: `settings` parses the directive. `handler` is the handler in the
chain, `answering` what it does for a query. `keys` determines which clients share a reply.
`cache_store` has the entries of one directive, `entry` is one cached reply and a bounded table of
them. `classify` decides whether a reply may be cached and for how long. `refresh` renews entries.
`contents` is shared by the caches of two generations during a reload, `dump` writes it for another
process. `budget` bounds the memory of the whole process. `purge` removes names on command,
`inspecting` and `status` show entries and numbers to an operator, and `cli` is `corepy cache`.
`metrics` defines the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import Mistakes, QueryTimeout
from corepy_cache.handler import Cache
from corepy_cache.settings import Parser, Settings

if TYPE_CHECKING:
    from corepy.plugin import Controller

api_version = 1

_SHARE: Final = 0.75
"""The part of the time limit of *cancel* for which a query waits before it gets a stale answer."""


def setup(controller: Controller) -> None:
    """Parse the directive and add a `Cache` to the block's chain."""
    settings = Settings()
    mistakes = Mistakes()
    with mistakes:
        for _ in controller.single():
            with controller.statement(mistakes):
                Parser(controller, settings).directive()
    mistakes.settle()
    longest = _SHARE * controller.config.get(QueryTimeout).seconds
    stale = settings.stale
    if stale.verify and longest:
        stale.verify_timeout = min(stale.verify_timeout or longest, longest)
    controller.add_handler(Cache(settings))
