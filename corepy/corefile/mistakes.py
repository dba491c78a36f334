"""Collecting mistakes, so that one run of a check shows all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile.diagnostics import CorefileError

if TYPE_CHECKING:
    from types import TracebackType

    from corepy.corefile.diagnostics import Diagnostic


class Mistakes:
    """Keeps the `CorefileError` that a `with` block raises, and goes on behind the block.

    One object serves any number of blocks, one after another or nested; `settle` at the end raises
    what was kept.
    """

    def __init__(self) -> None:
        """Know of no mistake yet."""
        self.diagnostics: list[Diagnostic] = []

    def __bool__(self) -> bool:
        return bool(self.diagnostics)

    def __enter__(self) -> None:
        """Collect what is raised from here on."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Keep a `CorefileError`; let everything else pass."""
        if not isinstance(error, CorefileError):
            return False
        self.diagnostics += error.diagnostics
        return True

    def settle(self) -> None:
        """Raise one `CorefileError` with all mistakes, if there were any."""
        if self.diagnostics:
            raise CorefileError(*self.diagnostics)
