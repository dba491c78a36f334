"""Warns about labels of metadata that no plugin sets: reading one always gives an empty value."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corepy.corefile import Diagnostic, suggest
from corepy.plugin import MetadataCollector

if TYPE_CHECKING:
    from corepy.corefile import Token
    from corepy.plugin import BlockConfig, Controller

_OF_THE_SERVER: Final = "corepy"
"""The first part of labels that the server sets."""

_HINT: Final = "add metadata to the block"


@dataclass(slots=True)
class BlockLabels:
    """The labels that the directives of a server block read and provide."""

    config: BlockConfig
    directives: frozenset[str]
    read: list[tuple[str, Token, bool]] = field(default_factory=list)
    """Each label, its place, and whether it is only shown; see `Controller.reads_label`."""

    provided: dict[str, bool] = field(default_factory=dict)
    """The declared labels of all directives, and whether each needs *metadata*."""

    def note(self, controller: Controller) -> None:
        """Add what a directive has declared in its setup."""
        self.read += controller.labels_read
        self.provided |= controller.labels_provided

    def warnings(self, everywhere: Collection[str]) -> Iterator[Diagnostic]:
        """Yield a warning for each label that is never set; a block sees only its own labels.

        `everywhere` are the directives of all blocks.
        """
        for label, token, is_shown in sorted(self.read, key=_position):
            plugin = label.partition("/")[0]
            if is_shown and plugin not in self.directives and plugin in everywhere:
                continue
            warning = self._warning(label, token)
            if warning is not None:
                yield warning

    def _warning(self, label: str, token: Token) -> Diagnostic | None:
        plugin, slash, _ = label.partition("/")
        if not slash:
            hint = "a label is the name of a plugin and a name, such as view/name"
            return Diagnostic(f"{label!r} is not a label of metadata", token, hint, "warning")
        if plugin == _OF_THE_SERVER or self.provided.get(label) is False:
            return None
        provider = "" if label in self.provided or plugin in self.directives else plugin
        if not self.config.directive_of(MetadataCollector):
            message = f"{label} is probably never set: the block has no plugin 'metadata'"
            hint = f"add metadata and {provider} to the block" if provider else _HINT
            return Diagnostic(message, token, hint, "warning")
        if provider:
            message = f"{label} is probably never set: the block has no plugin {provider!r}"
            return Diagnostic(message, token, f"add {provider} to the block", "warning")
        known = sorted(each for each in self.provided if each.startswith(f"{plugin}/"))
        if not known or label in known:
            return None
        near = suggest(label, known)
        hint = f"did you mean {near!r}?" if near else f"labels: {', '.join(known)}"
        return Diagnostic(f"{plugin} has no label {label!r}", token, hint, "warning")


def _position(read: tuple[str, Token, bool]) -> tuple[int, int]:
    return read[1].line, read[1].column
