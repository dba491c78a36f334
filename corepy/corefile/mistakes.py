"""Collects errors, so that one check reports all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile.diagnostics import CorefileError

if TYPE_CHECKING:
    from types import TracebackType

    from corepy.corefile.diagnostics import Diagnostic


class Mistakes:
    """Collects the `CorefileError` of each `with` block; execution continues after the block.

    One object serves any number of blocks, consecutive or nested. A final `settle` raises the
    collected errors.
    """

    def __init__(self) -> None:
        """Start without errors."""
        self.diagnostics: list[Diagnostic] = []

    def __bool__(self) -> bool:
        return bool(self.diagnostics)

    def __enter__(self) -> None:
        """Begin a block whose `CorefileError` is collected."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Collect a `CorefileError`; let other exceptions propagate."""
        if not isinstance(error, CorefileError):
            return False
        self.diagnostics += error.diagnostics
        return True

    def settle(self) -> None:
        """Raise one `CorefileError` with all collected errors, if there are any."""
        if self.diagnostics:
            raise CorefileError(*self.diagnostics)
