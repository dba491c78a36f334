"""`LimitOptions`: the options of a directive that limits the clients of a transport."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.plugin.controller import Controller


class LimitOptions:
    """Reads options that are integers, each given at most once."""

    def __init__(self, controller: Controller, least: int, too_low: str, repeated: str) -> None:
        """`least` is the least value of an option.

        `too_low` and `repeated` are the messages for a lower value and for an option that is given
        again. They may contain {name} and {number}.
        """
        self._controller = controller
        self._least = least
        self._too_low = too_low
        self._repeated = repeated
        self.values: dict[str, Any] = {}
        """The values of the options that are given."""

    def table(self, names: Iterable[str]) -> dict[str, Callable[[], None]]:
        """Return the entries for `Controller.options`."""
        return {name: partial(self._read, name) for name in names}

    def _read(self, name: str) -> None:
        option, token = self._controller.token, self._controller.argument()
        number = self._controller.integer(token)
        if number < self._least:
            raise self._controller.error(self._too_low.format(name=name, number=number), token)
        if name in self.values:
            raise self._controller.error(self._repeated.format(name=name, number=number), option)
        self.values[name] = number
