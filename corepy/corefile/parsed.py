"""The result of parsing a Corefile: its server blocks, and the warnings about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from corepy.corefile.diagnostics import Diagnostic
    from corepy.corefile.model import ServerBlock, Source


class Corefile(NamedTuple):
    """A Corefile with everything it imports."""

    blocks: list[ServerBlock]
    files: list[str]
    """The absolute path of every file that was read, the Corefile itself first."""

    sources: list[Source]
    """The texts, the Corefile itself first."""

    warnings: list[Diagnostic]
    """Warnings about valid configuration that is probably a mistake."""

    zoneless: list[ServerBlock]
    """Blocks without a key, which are not in `blocks`; CoreDNS ignores them silently."""

    @property
    def directives(self) -> set[str]:
        """The names of all directives."""
        return {name for block in (*self.blocks, *self.zoneless) for name in block.directives}

    @property
    def is_empty(self) -> bool:
        """Whether there are no server blocks at all, so that CoreDNS serves its default."""
        return not self.blocks and not self.zoneless
