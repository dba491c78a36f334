"""Parse the *header* directive (CoreDNS: plugin/header/setup.go, header.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.constants import FLAG_AA, FLAG_RA, FLAG_RD
from corepy.plugin import Mistakes, suggest
from corepy_header.header import FlagChange, Header

if TYPE_CHECKING:
    from collections.abc import Collection

    from corepy.plugin import Controller, CorefileError, Token

_FLAGS: Final = {"aa": FLAG_AA, "ra": FLAG_RA, "rd": FLAG_RD}
_SELECTORS: Final = ("query", "response")
_ACTIONS: Final = ("set", "clear")

_Changes = dict[str, FlagChange]


def setup(controller: Controller) -> None:
    """Add the handler; as in CoreDNS, only the first *header* with rules counts."""
    changes: _Changes = {}
    for _ in controller.occurrences():
        if changes:
            hint = "move its rules to the first header of the server block"
            controller.warn("this header is ignored", hint=hint)
            break
        controller.arguments(0, 0)
        changes = _rules(controller)
    if not changes:
        hint = "write at least one rule in a block, such as: response set ra"
        directive = controller.sibling(controller.directive)[0]
        raise controller.error("header without a rule has no effect", directive, hint)
    none = FlagChange()
    controller.add_handler(Header(changes.get("query", none), changes.get("response", none)))


def _rules(controller: Controller) -> _Changes:
    """Parse the block of one occurrence; return the sum of its rules by selector."""
    changes: _Changes = {}
    mistakes = Mistakes()
    while controller.next_block():
        with controller.statement(mistakes):
            selector = controller.val.lower()
            if selector in _ACTIONS:  # as in CoreDNS before 1.12.4
                hint = f"a rule begins with query or response: response {controller.val} ..."
                raise controller.error(f"unknown selector {controller.val!r}", hint=hint)
            if selector not in _SELECTORS:
                raise _unknown(controller, "selector", controller.token, _SELECTORS)
            change = changes.get(selector, FlagChange())
            changes[selector] = _read_rule(controller, change)
    mistakes.settle()
    return changes


def _read_rule(controller: Controller, change: FlagChange) -> FlagChange:
    """Return `change` followed by the rule on this line: an action and flags."""
    action, *words = controller.arguments(2)
    if action.text.lower() not in _ACTIONS:
        raise _unknown(controller, "action", action, _ACTIONS)
    for word in words:
        flag = _FLAGS.get(word.text.lower())
        if flag is None:
            raise _unknown(controller, "flag", word, _FLAGS)
        change = change.then_set(flag) if action.text.lower() == "set" else change.then_clear(flag)
    return change


def _unknown(
    controller: Controller, what: str, token: Token | None, known: Collection[str]
) -> CorefileError:
    text = token.text if token else ""
    near = suggest(text.lower(), list(known))
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
    return controller.error(f"unknown {what} {text!r}", token, hint)
