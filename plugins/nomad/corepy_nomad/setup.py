"""Parse the *nomad* directive (CoreDNS: plugin/nomad/setup.go)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from corepy.dns.names import InvalidName, from_text, is_subdomain, lower, to_text
from corepy.http.http_client import HTTPTarget, parse_url
from corepy.http.json_api import is_protected
from corepy.plugin import Mistakes, parse_integer
from corepy_nomad.access import Access, Address
from corepy_nomad.environment import Environment
from corepy_nomad.handler import Nomad
from corepy_nomad.source import Settings
from corepy_nomad.tls import TLSSettings, make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, Token

DEFAULT_ZONE: Final = "service.nomad."
DEFAULT_TTL: Final = 30
LONGEST_TTL: Final = 3600
"""Seconds."""

_LONGEST_PATH: Final = 107
"""Bytes of the path of a socket (unix(7))."""

_FILTER_HINT: Final = "filter FILTER, with quotation marks if it has spaces"
_TTL_HINT: Final = f"a number of seconds from 0 to {LONGEST_TTL}, such as 30"


@dataclass(slots=True)
class _Line:
    """The options of one directive."""

    addresses: list[Token] = field(default_factory=list)
    filter: str = ""
    token: str = ""
    ttl: int = DEFAULT_TTL


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, further directives of a block have no effect."""
    is_first = True
    for _ in controller.occurrences():
        directive = controller.token
        zone = _zone(controller)
        line = _Line()
        _parse_options(controller, line)
        if is_first:
            _warn_of_other_zone(controller, directive, zone)
            controller.add_handler(Nomad(_settings(controller, directive, line), zone))
        else:
            controller.warn("only the first nomad of a block has an effect", directive)
        is_first = False


def _zone(controller: Controller) -> bytes:
    """Return the zone, the first argument; as in CoreDNS, others have no effect."""
    words = controller.remaining_tokens()
    if len(words) > 1:
        controller.warn("only the first zone has an effect", words[1])
    if not words:
        return from_text(DEFAULT_ZONE)
    try:
        return lower(from_text(words[0].text))
    except InvalidName as error:
        raise controller.error(f"invalid zone: {error}", words[0]) from None


def _warn_of_other_zone(controller: Controller, directive: Token | None, zone: bytes) -> None:
    """Warn of a zone that no query in the server block can be in."""
    served = controller.config.zones
    origins = [from_text(it) for it in served]
    if not any(is_subdomain(zone, it) or is_subdomain(it, zone) for it in origins):
        message = f"no query for {to_text(zone)} reaches this server block"
        controller.warn(message, directive, f"name its zone: nomad {served[0]}")


def _parse_options(controller: Controller, line: _Line) -> None:
    """Parse the block; as in CoreDNS, options may have capitals."""
    table = _options(controller, line)
    mistakes = Mistakes()
    while controller.next_block():
        with controller.statement(mistakes):
            action = table.get(controller.val.lower())
            if action is None:
                raise controller.unknown_option(table)
            action()
    mistakes.settle()


def _options(controller: Controller, line: _Line) -> Mapping[str, Callable[[], None]]:
    return {
        "address": lambda: line.addresses.extend(controller.arguments(1, hint="address URL...")),
        "filter": lambda: setattr(line, "filter", controller.argument(_FILTER_HINT).text),
        "token": lambda: setattr(line, "token", _token(controller)),
        "ttl": lambda: setattr(line, "ttl", _ttl(controller)),
    }


def _token(controller: Controller) -> str:
    words = controller.remaining_tokens()
    for word in words:
        word.hide()
    if len(words) != 1:
        raise controller.arg_error(hint="token TOKEN")
    token = words[0]
    if not _is_header(token.text):
        raise controller.error("the token has characters that no token has", token)
    return token.text


def _is_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _ttl(controller: Controller) -> int:
    token = controller.argument(_TTL_HINT)
    ttl = parse_integer(token.text)
    if ttl is None:
        raise controller.error(f"invalid TTL {token.text!r}", token, _TTL_HINT)
    if not 0 <= ttl <= LONGEST_TTL:
        raise controller.error(f"TTL {token.text!r} is out of range", token, _TTL_HINT)
    return ttl


def _settings(controller: Controller, directive: Token | None, line: _Line) -> Settings:
    environment = Environment(os.environ)
    for message in environment.warnings:
        controller.warn(message, directive)
    token = line.token or environment.token
    if not _is_header(token):
        raise controller.error("NOMAD_TOKEN has characters that no token has", directive)
    if not _is_header(environment.region):
        raise controller.error("NOMAD_REGION has characters that no region has", directive)
    access = Access(token, environment.authorization, environment.region, line.filter)
    addresses = [_address(controller, it, it.text) for it in line.addresses]
    if not addresses:
        addresses = [_address(controller, directive, environment.address, "NOMAD_ADDR")]
    _warn_of_plain_text(controller, addresses, access, line.addresses or [directive])
    tls = _tls(controller, directive, environment)
    return Settings(tuple(dict.fromkeys(addresses)), access, tls, line.ttl)


def _address(
    controller: Controller, token: Token | None, text: str, option: str = "address"
) -> Address:
    try:
        target = _unix_address(text) if text.startswith("unix:") else Address(parse_url(text))
    except ValueError as error:
        hint = "such as http://127.0.0.1:4646, or unix:///secrets/api.sock"
        shown = repr(_without_user(text))
        raise controller.error(f"{option} {shown}: {error}", token, hint) from None
    if target.socket_path is None and target.target.path.strip("/"):
        controller.warn(f"the path of {_without_user(text)!r} is ignored", token)
    return target


def _without_user(text: str) -> str:
    """Return a URL without user name and password."""
    scheme, separator, rest = text.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _unix_address(text: str) -> Address:
    parts = urlsplit(text)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise ValueError("the path of the socket must be absolute, after unix://")
    if len(os.fsencode(path)) > _LONGEST_PATH or "\0" in path:
        raise ValueError(f"the path of a socket has at most {_LONGEST_PATH} bytes")
    return Address(HTTPTarget("http", "127.0.0.1", 80, ""), path)


def _warn_of_plain_text(
    controller: Controller,
    addresses: list[Address],
    access: Access,
    tokens: list[Token] | list[Token | None],
) -> None:
    """Warn of secrets that would be sent over a network without encryption."""
    for address, token in zip(addresses, tokens, strict=True):
        target = address.target
        has_secret = access.token or access.authorization or target.authorization
        if has_secret and not is_protected(target):
            message = f"the token or password is sent to {target.host} without encryption"
            controller.warn(message, token, "use https://")


def _tls(controller: Controller, directive: Token | None, environment: Environment) -> TLSSettings:
    """Return the settings for https, whose files must be there, also without an https address."""
    try:
        tls = environment.tls
        if tls != TLSSettings():  # the certificates of the system take a while
            make_context(tls)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:
        reason = str(error)
    else:
        for path in tls.files.paths:
            controller.watch_file(path)
        return tls
    hint = "correct the variables NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT and ..._KEY"
    raise controller.error(f"TLS for Nomad: {reason}", directive, hint)
