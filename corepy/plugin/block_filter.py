"""Filters, which decide before the chain whether a server block answers a query (CoreDNS: Viewer).

Several server blocks may have the same zone and address if no more than one of them has no filter.
A plugin adds a filter in its setup with `Controller.add_filter`. For a query, the blocks of the
longest zone are considered in the order of the Corefile, then those of shorter zones; the first
block whose filters all accept the query answers it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from corepy.plugin.handler import Cacheability

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Request

CACHEABILITIES = frozenset(Cacheability) - {Cacheability.OBSERVES, Cacheability.SETS_DEADLINE}
"""The values that a filter may have: the inputs that its verdict depends on."""


class BlockFilter:
    """One filter of a server block."""

    __slots__ = ("cacheability", "function", "is_about_question", "name", "view")

    def __init__(
        self,
        function: Callable[[Request], bool],
        view: str,
        cacheability: Cacheability,
        name: str,
        *,
        is_about_question: bool = False,
    ) -> None:
        """See `Controller.add_filter`; `name` is the directive.

        Raises TypeError or ValueError for values that a filter cannot have.
        """
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError("a filter must be an ordinary function")
        if not isinstance(view, str):
            raise TypeError(f"the view of a filter must be a str, not {view!r}")
        if cacheability not in CACHEABILITIES:
            raise ValueError(f"{cacheability} is not a cacheability of a filter")
        if is_about_question and cacheability is not Cacheability.SAFE:
            raise ValueError(f"a filter that is about the question is SAFE, not {cacheability}")
        self.function = function
        self.view = view
        self.cacheability = cacheability
        self.name = name
        self.is_about_question = is_about_question

    def accepts(self, request: Request) -> bool:
        """Return the verdict on `request`; raises what the function raises, or TypeError."""
        verdict: object = self.function(request)
        if verdict is True or verdict is False:
            return verdict
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise TypeError(f"the filter returned {type(verdict).__name__} instead of a bool")


@dataclass(frozen=True, slots=True)
class BlockFilters:
    """The filters of a server block; `Controller.add_filter` sets it."""

    filters: tuple[BlockFilter, ...] = ()
    """In the order of the chain. The block answers a query that all of them accept."""

    @property
    def view(self) -> str:
        """The view of the block, "" if no filter names one."""
        return next((it.view for it in self.filters if it.view), "")

    @property
    def question_filter_count(self) -> int:
        """The number of filters before the first one that depends on more than the question."""
        return len(list(takewhile(lambda it: it.is_about_question, self.filters)))


@dataclass(frozen=True, slots=True)
class MetadataCollector:
    """How the block gets the metadata of a query before its filters; *metadata* sets it."""

    collect: Callable[[Request], None] | None = None
    """Replaces `Request.metadata` by one with the labels that other plugins provide.

    It is called before the filters of the block. Without a filter at an address it is not called
    there, and the labels are collected in the chain.
    """
