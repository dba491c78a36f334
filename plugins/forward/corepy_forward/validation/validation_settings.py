"""`ValidationSettings`: the options of one `forward` line for validation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.plugin import Token
    from corepy_forward.validation.anchor import NegativeAnchor


@dataclass(slots=True)
class ValidationSettings:
    """The options, as tokens where a later check may refuse them."""

    token: Token | None = None
    """The token of `dnssec validate`, None without it."""

    files: list[Token] = field(default_factory=list)
    """The files with trust anchors; empty: the anchors of the root that are built in."""

    state: Token | None = None
    """The file with the states of the anchors' keys."""

    negative: list[tuple[NegativeAnchor, Token]] = field(default_factory=list)

    @property
    def dependent(self) -> list[Token]:
        """The tokens of options that have no effect without `dnssec validate`."""
        tokens = [token for _, token in self.negative]
        return tokens if self.state is None else [self.state, *tokens]
