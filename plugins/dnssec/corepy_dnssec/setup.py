"""Parse the *dnssec* directive (CoreDNS: plugin/dnssec/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.names import is_subdomain, to_text
from corepy.plugin import Mistakes
from corepy.zone.key_files import base_of, read_watched_key, warn_about_key
from corepy_dnssec.denial import BlackLies, WhiteLies
from corepy_dnssec.dnssec import DNSSEC, wire_of
from corepy_dnssec.signer import signer_for

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token
    from corepy.zone.signing_keys import SigningKey
    from corepy_dnssec.denial import Denial

CAPACITY: Final = 10_000
"""Record sets whose signatures are kept by default (CoreDNS: dnssec.go)."""

_KEY: Final = "key file KEY..., such as key file Kexample.org.+013+45330"
_DENIALS: Final[dict[str, type[BlackLies] | type[WhiteLies]]] = {
    "nsec": BlackLies,
    "nsec3": WhiteLies,
}


@dataclass(slots=True)
class Settings:
    """The options of the directive."""

    keys: list[tuple[SigningKey, Token]] = field(default_factory=list)
    capacity: int = CAPACITY
    denial: Denial = field(default_factory=BlackLies)


def setup(controller: Controller) -> None:
    """Add the handler of the directive."""
    settings = Settings()
    zones: list[str] = []
    for _ in controller.single():
        directive = controller.token
        zones = controller.zones_from(controller.remaining_tokens())
        controller.options(
            {
                "key": lambda: _key(controller, settings),
                "cache_capacity": lambda: _capacity(controller, settings),
                "denial": partial(_denial, controller, settings, zones),
            }
        )
        if not settings.keys:
            hint = f"in its block: {_KEY}"
            controller.warn("dnssec without a key signs nothing", directive, hint)
    _check_zones(controller, settings, zones)
    signer = signer_for([key for key, _ in settings.keys], settings.capacity)
    controller.add_handler(DNSSEC(zones, signer, settings.denial))


def _key(controller: Controller, settings: Settings) -> None:
    kind = controller.next_argument(_KEY)
    if kind.text == "aws_secretsmanager":
        hint = "write the secret into two files, for example in an init container, and use key file"
        message = "keys from AWS Secrets Manager are not supported: a start would need the network"
        raise controller.error(message, kind, hint)
    if kind.text != "file":
        raise controller.error(f"unknown source of keys {kind.text!r}", kind, _KEY)
    mistakes = Mistakes()
    for token in controller.arguments(1, hint=_KEY):
        with controller.statement(mistakes):
            base = base_of(controller.path(token))
            key = read_watched_key(controller, token, base)
            warn_about_key(controller, token, base, key)
            settings.keys.append((key, token))
    mistakes.settle()


def _capacity(controller: Controller, settings: Settings) -> None:
    token = controller.next_argument()
    settings.capacity = controller.integer(token)
    if settings.capacity < 1:
        controller.warn("no signature is kept: each reply is signed anew", token)
        settings.capacity = 0


def _denial(controller: Controller, settings: Settings, zones: list[str]) -> None:
    """Set the kind of denial, and refuse a zone whose name is too long for it."""
    token = controller.argument("denial nsec|nsec3")
    kind = _DENIALS.get(token.text)
    if kind is None:
        raise controller.error(f"unknown denial {token.text!r}", token, "denial nsec|nsec3")
    for zone in zones:
        wire = wire_of(zone)
        if wire is not None and len(wire) > kind.longest_zone:
            message = f"zone {zone} is too long for denial {token.text}"
            hint = "the names of NSEC3 records are 33 bytes longer: use denial nsec"
            raise controller.error(message, token, hint)
    settings.denial = kind()


def _check_zones(controller: Controller, settings: Settings, zones: list[str]) -> None:
    """Refuse a key that is for none of the zones, nor for a zone above one of them."""
    wires = [wire for zone in zones if (wire := wire_of(zone)) is not None]
    for key, token in settings.keys:
        if not any(is_subdomain(zone, key.owner) for zone in wires):
            name = f"key {to_text(key.owner)} (keyid: {key.tag})"
            message = f"{name} can not sign any of the zones"
            hint = f"the zones are: {' '.join(zones)}" if zones else "no zone of dnssec is valid"
            raise controller.error(message, token, hint)
