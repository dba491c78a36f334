"""Parse the *transfer* directives of a server block (CoreDNS: plugin/transfer/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corepy.dns.address import canonical
from corepy.net.networks import read_network
from corepy.plugin import Mistakes, ZoneMatcher
from corepy.plugin.server_options import ServerAddress, read_key, read_server_address
from corepy_transfer.rule import Rule
from corepy_transfer.transfer import Transfer

if TYPE_CHECKING:
    from corepy.dns.tsig import TSIGKey
    from corepy.net.networks import Network
    from corepy.plugin import Controller, Token


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    addresses: list[ServerAddress] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    allows_all: bool = False
    source: str = ""
    keys: list[TSIGKey] = field(default_factory=list)


def setup(controller: Controller) -> None:
    """Add one handler for all *transfer* directives of the block."""
    rules, mistakes = list[Rule](), Mistakes()
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            rules.append(_rule(controller))
    mistakes.settle()
    controller.add_handler(Transfer(rules, controller.block_handlers))


def _rule(controller: Controller) -> Rule:
    directive = controller.token
    zones = controller.zones_from(controller.remaining_tokens())
    settings = Settings()
    controller.options(
        {
            "to": lambda: _to(controller, settings),
            "source": lambda: _source(controller, settings),
            "key": lambda: _key(controller, settings),
        }
    )
    if not (settings.addresses or settings.networks or settings.allows_all):
        hint = "write the servers that may transfer the zones, or * for all: to 192.0.2.1"
        raise controller.error("'to' is required", directive, hint)
    return Rule(
        ZoneMatcher(zones),
        tuple(dict.fromkeys(settings.addresses)),
        tuple(settings.networks),
        settings.allows_all,
        settings.source,
        tuple(settings.keys),
    )


def _to(controller: Controller, settings: Settings) -> None:
    for token in controller.arguments(1):
        if token.text == "*":
            settings.allows_all = True
        elif "/" in token.text:
            settings.networks.append(_network(controller, token))
        else:
            settings.addresses.append(read_server_address(controller, token))


def _network(controller: Controller, token: Token) -> Network:
    try:
        return read_network(token.text)
    except ValueError:
        hint = "such as 192.0.2.0/24 or 2001:db8::/32"
        raise controller.error(f"not a network: {token.text!r}", token, hint) from None


def _source(controller: Controller, settings: Settings) -> None:
    token = controller.argument()
    if settings.source:
        raise controller.error("source already specified")
    source = canonical(token.text)
    if source is None:
        raise controller.error(f"invalid source address {token.text!r}", token)
    settings.source = source


def _key(controller: Controller, settings: Settings) -> None:
    for token in controller.arguments(1):
        settings.keys.append(read_key(controller, token))
