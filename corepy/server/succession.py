"""Passes the state of stateful handlers to their successors in the next generation.

A cache, for example, keeps its entries at a reload if the handlers below it give the same replies
as before. Nothing is copied: from `take_over` on, both handlers use the same state, until the
server has called `shutdown` of one of them. So a reload that fails has moved nothing.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from corepy.plugin import StatefulHandler, in_thread
from corepy.plugin.failures import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.server.build.generation import Generation
    from corepy.server.build.meaning import BlockMeaning, Inputs


async def read_files(generation: Generation) -> None:
    """Read the files that decide the meaning of state, unless the generation has no state."""
    if any(True for block in generation.blocks for _ in block.stateful()):
        await in_thread(lambda: _read(generation.blocks))


def _read(blocks: Sequence[BlockMeaning]) -> None:
    for block in blocks:
        for directive in block.directives:
            directive.read()


class Held(NamedTuple):
    """A stateful handler, and all that decides the meaning of its state."""

    handler: StatefulHandler
    directive: str
    block: BlockMeaning
    below: dict[str, Inputs]

    @property
    def role(self) -> tuple[object, ...]:
        """The properties that it shares with a successor."""
        return self.directive, type(self.handler), self.block.zones

    @property
    def title(self) -> str:
        """The beginning of a line of the log."""
        return f"server block at {self.block.place}: {self.directive}"


def held_by(generation: Generation) -> list[Held]:
    """Return the stateful handlers of a generation, in the order of the Corefile."""
    return [
        Held(
            handler,
            block.directives[index].directive,
            block,
            {it.directive: it.inputs for it in block.directives[index + 1 :]},
        )
        for block in generation.blocks
        for index, handler in block.stateful()
    ]


def take_over(old: Generation, new: Generation) -> list[str]:
    """Make the stateful handlers of `new` continue with the state of `old`.

    Returns a line for the log for each of them.
    """
    return _Succession(old, new).take_over()


class _Succession:
    def __init__(self, old: Generation, new: Generation) -> None:
        self._old, self._new = old, new
        self._before: dict[tuple[object, ...], list[Held]] = defaultdict(list)
        for held in held_by(old):
            self._before[held.role].append(held)

    def take_over(self) -> list[str]:
        return [f"{it.title} {self._outcome(it)}" for it in held_by(self._new)]

    def _outcome(self, new: Held) -> str:
        before = self._before[new.role]
        reason = "no server block had it for the same zones"
        for index, old in enumerate(before):
            difference = self._difference(old, new)
            if not difference:
                del before[index]
                return _pass_on(old, new)
            reason = difference
        return f"starts empty: {reason}"

    def _difference(self, old: Held, new: Held) -> str:
        """Return why the state of `old` may not be valid in `new`, "" if it is valid."""
        unknown = [name for name, inputs in new.below.items() if inputs is None]
        if unknown:
            return f"the inputs of {', '.join(unknown)} are not known"
        if list(old.below.items()) != list(new.below.items()):
            names = dict.fromkeys((*new.below, *old.below))
            changed = [it for it in names if old.below.get(it) != new.below.get(it)]
            return f"changed below it: {', '.join(changed)}" if changed else "the order changed"
        if old.handler.depends_on_lookups and not self._is_same_server:
            return "its replies contain look-ups in server blocks that changed, or may have"
        return ""

    @cached_property
    def _is_same_server(self) -> bool:
        """Whether all server blocks have the same meaning in both generations."""
        old, new = map(_all_inputs, (self._old, self._new))
        return old == new and all(inputs is not None for _, found in new for inputs in found)


def _all_inputs(generation: Generation) -> list[tuple[tuple[str, ...], list[Inputs]]]:
    """Return the inputs of each block, with its addresses: a look-up stays at one of them."""
    return [
        (block.addresses, [it.inputs for it in block.directives]) for block in generation.blocks
    ]


def _pass_on(old: Held, new: Held) -> str:
    try:
        return f"continues with {new.handler.take_over_state(old.handler)}"
    except Exception as error:  # plugin code
        report(new.directive, "hook", "take_over_state failed", error)
        return "starts empty: it has failed to continue"


class Identities:
    """Identifies the meaning of state across processes, for snapshots."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def of(self, held: Held, *, with_lookups: bool) -> bytes | None:
        """Return 32 bytes, equal for states of the same meaning; None if inputs are not known.

        `with_lookups` is whether the state depends on look-ups, so that other blocks matter.
        """
        if None in held.below.values() or (with_lookups and self._server is None):
            return None
        import hashlib  # loads OpenSSL, which a server without snapshots does not need

        kind = type(held.handler)
        role = held.directive, kind.__module__, kind.__qualname__, held.block.zones
        meaning = role, list(held.below.items()), self._server if with_lookups else None
        return hashlib.sha256(repr(meaning).encode("utf-8", "surrogateescape")).digest()

    @cached_property
    def _server(self) -> str | None:
        inputs = _all_inputs(self._generation)
        is_known = all(found is not None for _, block in inputs for found in block)
        return repr(inputs) if is_known else None
