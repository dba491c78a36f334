"""The knowledge about covering names, of which a bounded number is remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy_search_guard.proof import Proof

MOST_NAMES: Final = 4096
"""Covering names that are remembered; more are produced by hostile clients only."""


class Covered:
    """The knowledge about one covering name; times are monotonic seconds."""

    __slots__ = ("exists_until", "has_own_names", "next_sample", "proof", "retry_at")

    def __init__(self) -> None:
        self.proof: Proof | None = None
        self.exists_until = 0.0
        self.retry_at = 0.0
        self.next_sample = 0.0
        self.has_own_names: bool | None = None
        """Whether a handler of the block has a name below it; None if that is not known."""


class CoveredNames:
    """What is known about each covering name."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        """Beyond `most` names, the oldest ones are forgotten."""
        self._most = most
        self._known: dict[bytes, Covered] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: bytes) -> Covered | None:
        """Return what is known about `name`, None if nothing is."""
        return self._known.get(name)

    def remember(self, name: bytes) -> Covered:
        """Return what is known about `name`, and remember what will be."""
        covered = self._known.get(name)
        if covered is None:
            if len(self._known) >= self._most:
                del self._known[next(iter(self._known))]
            covered = self._known[name] = Covered()
        return covered

    def forget_proofs(self) -> None:
        """Remove all proofs, because names have changed."""
        for covered in self._known.values():
            covered.proof = covered.has_own_names = None
            covered.retry_at = 0.0

    def drop_proofs(self, ending: bytes) -> bool:
        """Remove the proofs of the names with this ending; return whether there was one."""
        found = [
            covered
            for name, covered in self._known.items()
            if covered.proof is not None and name.endswith(ending)
        ]
        for covered in found:
            covered.proof = None
        return bool(found)
