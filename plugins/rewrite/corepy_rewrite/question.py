"""The question of a query, by which rules select it."""

from __future__ import annotations

from typing import Protocol


class Question(Protocol):
    """The question of a query: a `Request`, or an `Exchange` in which rules have changed it."""

    @property
    def name(self) -> str:
        """The name in presentation form and lower case."""

    @property
    def name_wire(self) -> bytes:
        """The name in wire form and lower case."""

    @property
    def qtype(self) -> int:
        """The number of the type."""

    @property
    def qclass(self) -> int:
        """The number of the class."""
