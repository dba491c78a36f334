"""Parse *alternate* lines (github.com/coredns/alternate: setup.go, forward.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.constants import RCODES, rcode_name
from corepy.plugin import Mistakes, suggest
from corepy.plugin.upstream_words import read_upstreams
from corepy_alternate.handler import Alternate

if TYPE_CHECKING:
    from corepy.plugin import Controller, Handler, Token

ORIGINAL: Final = "original"
_COMMAS: Final = "separate rcodes with commas, without spaces: SERVFAIL,REFUSED"
_EXAMPLE: Final = "such as: alternate NXDOMAIN . 192.0.2.1"


def setup(controller: Controller) -> None:
    """Add one handler for all lines of the block."""
    rules: dict[int, int] = {}
    handlers: list[Handler] = []
    mistakes = Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            rcodes, handler = _line(controller, rules)
            rules.update(dict.fromkeys(rcodes, len(handlers)))
            handlers.append(handler)
    mistakes.settle()
    controller.add_handler(Alternate(rules, handlers))


def _line(controller: Controller, known: dict[int, int]) -> tuple[list[int], Handler]:
    """Return the rcodes of a line, and the handler that asks its upstreams."""
    directive = controller.token
    assert directive is not None
    tokens = controller.arguments(1, hint=_EXAMPLE)
    if tokens[0].text == ORIGINAL:
        _warn_of_rewrite(controller, tokens[0])
        del tokens[0]
    if len(tokens) < 3:
        raise controller.arg_error(hint=_EXAMPLE)
    rcodes_token, zone, *targets = tokens
    rcodes = _rcodes(controller, rcodes_token, known)
    _warn_of_zone(controller, zone)
    if controller.next_block():
        raise controller.error("additional parameters not allowed", hint="remove the block")
    used: dict[Token, None] = {}
    for token, upstream in read_upstreams(controller, targets):
        if upstream.transport != "dns":
            hint = "use forward with next and two lines for other transports"
            raise controller.error(f"only dns transport allowed: {upstream}", token, hint)
        used[token] = None
    words = [".", *(token.text for token in used)]
    return rcodes, controller.embed("forward", [words], targets[0])


def _warn_of_zone(controller: Controller, zone: Token) -> None:
    """Warn about a zone, which has no effect, or about an rcode in its place."""
    if zone.text == ".":
        return
    hint = "write '.'"
    if zone.text.upper() in RCODES:
        hint = "separate rcodes with commas: SERVFAIL,REFUSED"
    controller.warn(f"{zone.text} is taken as the zone, which has no effect", zone, hint)


def _rcodes(controller: Controller, token: Token, known: dict[int, int]) -> list[int]:
    found: dict[int, None] = {}
    for word in token.text.split(","):
        rcode = RCODES.get(word.upper())
        if rcode is None:
            near = suggest(word.upper(), list(RCODES))
            hint = f"did you mean {near!r}?" if near else _COMMAS
            raise controller.error(f"{word!r} is not a valid rcode", token, hint)
        if rcode in known:
            hint = "write all upstreams for an rcode in one line"
            message = f"rcode {rcode_name(rcode)} is specified more than once"
            raise controller.error(message, token, hint)
        found[rcode] = None
    return list(found)


def _warn_of_rewrite(controller: Controller, token: Token) -> None:
    """Warn that rewritten queries are not the client's own."""
    if controller.sibling("rewrite"):
        controller.warn(
            "the alternate upstreams get the query as rewrite has changed it",
            token,
            "to ask them the client's own query, use -plugin-order with: alternate before rewrite",
        )
