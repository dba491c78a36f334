"""Parse the *acl* directives of a server block (CoreDNS: plugin/acl/setup.go)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import TYPES
from corepy.plugin import CorefileError, Mistakes, suggest
from corepy_acl.acl import ACL
from corepy_acl.networks import EVERYWHERE, Network, read_network
from corepy_acl.rule import Action, Policy, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corepy.plugin import Controller, Token

_ACTIONS: Final = {action.value: action for action in Action}
_SECTIONS: Final = ("type", "net")
_ALL: Final = "*"
_ANY_TYPE: Final = 0
"""The number of the type "None", which CoreDNS takes for all types."""


def setup(controller: Controller) -> None:
    """Add one handler for all *acl* directives of the block."""
    rules, mistakes = list[Rule](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            rules.append(_rule(controller))
    mistakes.settle()
    controller.add_handler(ACL(rules, controller.config.zones))


def _rule(controller: Controller) -> Rule:
    zones = controller.zones_from(controller.remaining_tokens())
    policies, mistakes = list[Policy](), Mistakes()
    while controller.next_block():
        with controller.statement(mistakes):
            policies.append(_policy(controller))
    mistakes.settle()
    rule = Rule(zones, policies)
    for policy in rule.unreachable():
        hint = "the first matching line decides: put exceptions first"
        controller.warn("this line has no effect: earlier lines match first", policy.token, hint)
    return rule


def _policy(controller: Controller) -> Policy:
    token = controller.token
    assert token is not None
    action = _ACTIONS.get(token.text.lower())
    if action is None:
        near = suggest(token.text.lower(), list(_ACTIONS))
        message = f"unexpected {token.text!r}, expected 'allow', 'block', 'filter' or 'drop'"
        raise controller.error(message, token, f"did you mean {near!r}?" if near else None)
    types: set[int] = set()
    networks: list[Network] = []
    readers: dict[str, Callable[[Token], None]] = {
        "type": lambda token: types.update(_types(controller, token)),
        "net": lambda token: networks.extend(_networks(controller, token)),
    }
    mistakes = Mistakes()
    for section, values in _sections(controller, controller.remaining_tokens()):
        for value in _up_to_all(controller, values):
            with mistakes:
                readers[section](value)
    mistakes.settle()
    every_type = not types or _ANY_TYPE in types
    return Policy(action, None if every_type else frozenset(types), networks or EVERYWHERE, token)


def _sections(
    controller: Controller, words: Sequence[Token]
) -> Iterator[tuple[str, Sequence[Token]]]:
    """Yield `type` or `net`, each with its values; raises `CorefileError`."""
    starts = [at for at, word in enumerate(words) if word.text.lower() in _SECTIONS]
    if words and 0 not in starts:
        raise _missing_section(controller, words[0])
    for start, end in itertools.pairwise([*starts, len(words)]):
        section = words[start].text.lower()
        if start + 1 == end:
            hint = "A or AAAA" if section == "type" else "192.0.2.0/24"
            message = f"no value in the section {section!r}"
            raise controller.error(message, words[start], f"such as {section} {hint}, or {_ALL}")
        yield section, words[start + 1 : end]


def _up_to_all(controller: Controller, values: Sequence[Token]) -> Iterator[Token]:
    """Yield the values up to `*`; as in CoreDNS, later ones are not read."""
    for at, value in enumerate(values):
        yield value
        if value.text == _ALL:
            for ignored in values[at + 1 :]:
                controller.warn(f"{ignored.text!r} is ignored: {_ALL} matches everything", ignored)
            return


def _types(controller: Controller, token: Token) -> list[int]:
    """Return the numbers of a query type, which is in upper case, as in CoreDNS."""
    if token.text == _ALL:
        return [_ANY_TYPE]
    number = TYPES.get(token.text)
    if number is None:
        upper = token.text.upper()
        near = upper if upper in TYPES else suggest(upper, list(TYPES))
        hint = f"did you mean {near!r}?" if near else "a type in upper case, such as AAAA"
        raise controller.error(f"unknown query type {token.text!r}", token, hint)
    return [number]


def _networks(controller: Controller, token: Token) -> Sequence[Network]:
    if token.text == _ALL:
        return EVERYWHERE
    try:
        return [read_network(token.text)]
    except ValueError:
        hint = "an address or a network, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"
        raise controller.error(f"illegal CIDR notation {token.text!r}", token, hint) from None


def _missing_section(controller: Controller, word: Token) -> CorefileError:
    near = suggest(word.text.lower(), _SECTIONS)
    if word.text.upper() in TYPES:
        near = f"type {word.text.upper()}"
    elif "." in word.text or ":" in word.text or word.text == _ALL:
        near = f"net {word.text}"
    message = f"unexpected {word.text!r}, expected 'type' or 'net'"
    return controller.error(message, word, f"did you mean {near!r}?" if near else None)
