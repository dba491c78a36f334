"""The rules for EDNS options (CoreDNS: plugin/rewrite/edns0.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import Cacheability
from corepy_rewrite.steps import OptionReversal

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_rewrite.exchange import Exchange

APPEND: Final = "append"
REPLACE: Final = "replace"
SET: Final = "set"
UNSET: Final = "unset"
ACTIONS: Final = (APPEND, REPLACE, SET, UNSET)


class Value:
    """The data that a rule gives to an option; it may depend on the query."""

    def __init__(
        self,
        function: Callable[[Exchange], bytes | None],
        cacheability: Cacheability = Cacheability.SAFE,
        *,
        is_constant: bool = False,
        reads_metadata: bool = False,
    ) -> None:
        """Take a function that returns the data for a query, None if there is none."""
        self.of = function
        self.cacheability = cacheability
        self.is_constant = is_constant
        self.reads_metadata = reads_metadata


def constant(data: bytes) -> Value:
    """Return a value that is the same for all queries."""
    return Value(lambda _: data, is_constant=True)


class OptionRule:
    """Sets an EDNS option of queries: one that they have, or lack, or both."""

    selector = None

    def __init__(
        self, action: str, code: int, value: Value, *, reverts: bool, is_local: bool = False
    ) -> None:
        """With `reverts`, the reply has the option as it was before.

        `is_local` marks an option that the server must know of to repeat it in replies.
        """
        self.action = action
        self.code = code
        self.is_local = is_local
        self.cacheability = value.cacheability
        self.applies_always = action == SET and value.is_constant
        self.reads_metadata = value.reads_metadata
        self._value = value
        self._reverts = reverts

    def apply(self, exchange: Exchange) -> bool:
        """Set the option; a query without EDNS gets an OPT record, its reply none."""
        before = exchange.option(self.code)
        if self.action != SET and (before is None) != (self.action == APPEND):
            return False
        data = self._value.of(exchange)
        if data is None:
            return False
        exchange.options = _with(exchange.current_options, self.code, data)
        exchange.changed_codes.add(self.code)
        if self._reverts:
            exchange.steps.append(OptionReversal(self.code, before))
        return True


class OptionRemoval:
    """Removes an EDNS option from queries; as in CoreDNS it applies to those without it, too."""

    cacheability = Cacheability.SAFE
    selector = None
    applies_always = True

    def __init__(self, code: int) -> None:
        self.code = code

    def apply(self, exchange: Exchange) -> bool:
        """Remove the option."""
        if exchange.option(self.code) is not None:
            options = exchange.current_options
            exchange.options = [each for each in options if each[0] != self.code]
            exchange.changed_codes.add(self.code)
        return True


def _with(options: list[tuple[int, bytes]], code: int, data: bytes) -> list[tuple[int, bytes]]:
    """Return the options with other data for the first one with a code, or one more."""
    for index, (other, _) in enumerate(options):
        if other == code:
            options[index] = (code, data)
            return options
    return [*options, (code, data)]
