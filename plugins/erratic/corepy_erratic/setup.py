"""Parse the *erratic* directive (CoreDNS: plugin/erratic/setup.go)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from corepy_erratic.erratic import DROP_ONLY, Effects, Erratic

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

DEFAULT_AMOUNT: Final = 2
DEFAULT_DURATION: Final = 0.1
"""Seconds of a delay without a duration."""

_LARGEST: Final = 2**31 - 1


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, the options of all *erratic* directives of a block count."""
    given: dict[str, float] = {}
    options = {
        "drop": lambda: given.update(drop=_amount(controller, controller.arguments(0, 1))),
        "truncate": lambda: given.update(truncate=_amount(controller, controller.arguments(0, 1))),
        "delay": lambda: given.update(_delay(controller)),
        "large": lambda: given.update(large=not controller.arguments(0, 0)),
    }
    for _ in controller.occurrences():
        controller.arguments(0, 0)
        controller.options(options)
    effects = Effects(**given)  # type: ignore[arg-type]  # the amounts are whole numbers
    if "drop" not in given and not (effects.delay or effects.truncate):
        effects = replace(effects, drop=DROP_ONLY.drop)
    controller.add_handler(Erratic(effects))


def _delay(controller: Controller) -> dict[str, float]:
    arguments = controller.arguments(0, 2)
    seconds = controller.duration(arguments[1]) if arguments[1:] else DEFAULT_DURATION
    return {"delay": _amount(controller, arguments[:1]), "duration": seconds}


def _amount(controller: Controller, arguments: list[Token]) -> int:
    """Return the number of queries of which one is affected; 0 for none. Raises `CorefileError`."""
    if not arguments:
        return DEFAULT_AMOUNT
    (token,) = arguments
    amount = controller.integer(token)
    if not 0 <= amount <= _LARGEST:
        hint = f"a number from 0 to {_LARGEST}; 0 affects no query"
        raise controller.error(f"illegal amount value given {token.text!r}", token, hint)
    return amount
