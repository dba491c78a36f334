"""Parse the *secondary* directives of a server block (CoreDNS: plugin/secondary/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.plugin import Fallthrough, ZoneMatcher
from corepy.plugin.server_options import ServerAddress, read_key, read_server_address
from corepy.zone import origin_from_text
from corepy_secondary.fetching import Primary
from corepy_secondary.secondary import Secondary
from corepy_secondary.settings import Settings
from corepy_secondary.store import Store

if TYPE_CHECKING:
    from corepy.dns.tsig import TSIGKey
    from corepy.plugin import Controller, Token


@dataclass(slots=True)
class Options:
    """The options of one directive, as they are read."""

    addresses: list[ServerAddress] = field(default_factory=list)
    key: TSIGKey | None = None
    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    folder: Path | None = None
    members: list[str] | None = None
    takes_all_members: bool = False


def setup(controller: Controller) -> None:
    """Add one handler for all directives of the block, which transfers the zones."""
    found: list[Settings] = []
    origins: dict[bytes, Token] = {}
    for _ in controller.occurrences():
        directive = controller.token
        assert directive is not None
        settings = _directive(controller, directive)
        for origin in settings.origins:
            if origin in origins:
                other = origins[origin].location
                message = f"this zone has primary servers already, at {other}"
                raise controller.error(message, directive, "write all of them in one directive")
            origins[origin] = directive
        found.append(settings)
    controller.add_handler(Secondary(found))


def _directive(controller: Controller, directive: Token) -> Settings:
    zones = controller.zones_from(controller.remaining_tokens())
    options = Options()
    controller.options(
        {
            "transfer": lambda: _transfer(controller, options),
            "key": lambda: _key(controller, options),
            "catalog": lambda: _catalog(controller, options),
            "fallthrough": lambda: setattr(options, "fallthrough", controller.fallthrough()),
            "store": lambda: _store(controller, options),
        }
    )
    if not options.addresses:
        hint = "write the servers that have the zones: transfer from 192.0.2.1"
        message = "secondary zones require a transfer from property"
        raise controller.error(message, directive, hint)
    return Settings(
        tuple(dict.fromkeys(origin_from_text(zone) for zone in zones)),
        tuple(Primary(it, options.key) for it in dict.fromkeys(options.addresses)),
        options.fallthrough,
        None if options.folder is None else Store(options.folder),
        _members(options),
    )


def _transfer(controller: Controller, options: Options) -> None:
    word, *addresses = controller.arguments(1)
    if word.text != "from":
        raise controller.error(f"unknown property {word.text!r}", word, "transfer from ADDRESS...")
    if not addresses:
        raise controller.arg_error(word)
    for token in addresses:
        if token.text == "*":
            raise controller.error("can't use '*' in transfer from", token)
        options.addresses.append(read_server_address(controller, token))


def _key(controller: Controller, options: Options) -> None:
    options.key = read_key(controller, controller.argument())


def _catalog(controller: Controller, options: Options) -> None:
    tokens = controller.remaining_tokens()
    options.members = options.members or []
    options.takes_all_members |= not tokens
    for token in tokens:
        options.members += controller.zones_of(token)


def _members(options: Options) -> ZoneMatcher | None:
    """Return the zones that a catalog may list; a line without zones allows all (CoreDNS)."""
    if options.members is None:
        return None
    return ZoneMatcher(["."] if options.takes_all_members else options.members)


def _store(controller: Controller, options: Options) -> None:
    options.folder = controller.path(controller.argument())
