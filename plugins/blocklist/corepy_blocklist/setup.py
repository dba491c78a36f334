"""Parse the *blocklist* directive."""

from __future__ import annotations

import glob
import os
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from corepy.dns.edns import EDE_BLOCKED, EDE_CENSORED, EDE_FILTERED
from corepy.dns.names import InvalidName, to_text
from corepy.plugin import ZoneMatcher, suggest
from corepy.plugin.server_options import read_server_address
from corepy_blocklist.acting import ActionSettings
from corepy_blocklist.files import Pattern, Source
from corepy_blocklist.handler import LABELS, Blocklist
from corepy_blocklist.lists import Lists
from corepy_blocklist.names import zone_name
from corepy_blocklist.rule import BELOW, NAME, Action, SourceKind
from corepy_blocklist.transferring import TransferredZone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, Token

DEFAULT_RELOAD: Final = 5.0
"""Seconds between two checks of the files."""

SHORTEST_RELOAD: Final = 0.05
LONGEST_TTL: Final = 86400
"""Seconds."""

_ACTIONS: Final = {
    "nxdomain": Action.NXDOMAIN,
    "nodata": Action.NODATA,
    "refused": Action.REFUSED,
    "drop": Action.DROP,
    "address": Action.ADDRESS,
}
_ERRORS: Final = {
    "blocked": EDE_BLOCKED,
    "censored": EDE_CENSORED,
    "filtered": EDE_FILTERED,
    "off": None,
}
_SCOPES: Final = {"name": NAME, "subdomains": NAME | BELOW}


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    sources: list[Source] = field(default_factory=list)
    actions: ActionSettings = field(default_factory=ActionSettings)
    plain_scope: int = NAME
    reload: float = DEFAULT_RELOAD
    inspects_aliases: bool = True
    logs_hits: bool = False


def setup(controller: Controller) -> None:
    """Add a handler for each directive; the files are loaded at the start."""
    for _ in controller.occurrences():
        directive = controller.token
        zones = controller.zones_from(_zone_tokens(controller))
        settings = Settings()
        controller.options(_options(controller, settings))
        if not settings.sources:
            hint = "such as: list /etc/corepy/block.txt"
            raise controller.error("no list, allow, rpz or transfer in the block", directive, hint)
        lists = Lists(settings.sources, settings.plain_scope, settings.reload)
        controller.register(lists)
        controller.add_handler(
            Blocklist(
                lists,
                None if "." in zones else ZoneMatcher(zones),
                settings.actions,
                inspects_aliases=settings.inspects_aliases,
                logs_hits=settings.logs_hits,
                denies_clients=any(map(_may_deny_clients, settings.sources)),
            )
        )
    controller.provides_labels(LABELS, needs_metadata=False)


def _zone_tokens(controller: Controller) -> list[Token]:
    """Return the arguments; raises `CorefileError` for a file, as other plugins take it there."""
    tokens = controller.remaining_tokens()
    for token in tokens:
        if token.text.startswith(("/", "./", "../")) or "://" in token.text:
            hint = f"files are in the block, such as {{ list {token.text} }}"
            raise controller.error(f"{token.text!r} is not a zone", token, hint)
    return tokens


def _may_deny_clients(source: Source) -> bool:
    """Return whether a source may have rules for clients."""
    return not isinstance(source, Pattern) or source.kind is SourceKind.RPZ


def _options(controller: Controller, settings: Settings) -> Mapping[str, Callable[[], None]]:
    return {
        "list": lambda: _files(controller, settings, SourceKind.LIST),
        "allow": lambda: _files(controller, settings, SourceKind.ALLOW),
        "rpz": lambda: _rpz(controller, settings),
        "transfer": lambda: _transfer(controller, settings),
        "action": lambda: _action(controller, settings),
        "match": lambda: _match(controller, settings),
        "ttl": lambda: _ttl(controller, settings),
        "reload": lambda: _reload(controller, settings),
        "ede": lambda: _ede(controller, settings),
        "log": lambda: _flag(controller, settings, "logs_hits", value=True),
        "no_cname": lambda: _flag(controller, settings, "inspects_aliases", value=False),
    }


def _flag(controller: Controller, settings: Settings, name: str, *, value: bool) -> None:
    controller.arguments(0, 0)
    setattr(settings, name, value)


def _files(controller: Controller, settings: Settings, kind: SourceKind) -> None:
    for token in controller.arguments(1, hint="such as: list /etc/corepy/lists/*.txt"):
        settings.sources.append(Pattern(kind, _path(controller, token)))


def _rpz(controller: Controller, settings: Settings) -> None:
    token, *zones = controller.arguments(1, 2, "such as: rpz /etc/corepy/rpz.zone rpz.example.")
    zone = ""
    for name in zones:
        try:
            zone = to_text(zone_name(name.text))
        except InvalidName as error:
            raise controller.error(str(error), name) from None
    settings.sources.append(Pattern(SourceKind.RPZ, _path(controller, token), zone))


def _transfer(controller: Controller, settings: Settings) -> None:
    token, *servers = controller.arguments(2, hint="such as: transfer rpz.example. 192.0.2.1")
    try:
        zone = to_text(zone_name(token.text))
    except InvalidName as error:
        raise controller.error(str(error), token) from None
    primaries = [read_server_address(controller, server) for server in servers]
    settings.sources.append(TransferredZone(zone, primaries))


def _path(controller: Controller, token: Token) -> str:
    """Return a path or a pattern, with a warning about one that leads to no file now."""
    path = str(controller.path(token).absolute())
    if "\0" in path:
        raise controller.error("a path cannot contain a NUL byte", token)
    if glob.has_magic(path):
        if not glob.glob(path):
            controller.warn(f"no file matches {path}", token, "files are loaded when they appear")
    elif not os.path.isfile(path):
        controller.warn(f"{path} is not a file", token, "it is loaded when it appears")
    return path


def _action(controller: Controller, settings: Settings) -> None:
    token, *addresses = controller.arguments(1, 3, "such as: action nxdomain")
    action = _ACTIONS.get(token.text)
    if action is None:
        raise _unknown(controller, token, "action", list(_ACTIONS))
    if addresses and action is not Action.ADDRESS:
        raise controller.error(f"action {token.text} takes no addresses", addresses[0])
    settings.actions = replace(settings.actions, listed=action)
    for address in addresses:
        settings.actions = _with_address(controller, settings.actions, address)


def _with_address(controller: Controller, actions: ActionSettings, token: Token) -> ActionSettings:
    try:
        if ":" in token.text:
            return replace(actions, ipv6=socket.inet_pton(socket.AF_INET6, token.text))
        return replace(actions, ipv4=socket.inet_pton(socket.AF_INET, token.text))
    except (OSError, ValueError):
        raise controller.error(f"not an IP address: {token.text!r}", token) from None


def _unknown(controller: Controller, token: Token, kind: str, known: list[str]) -> Exception:
    near = suggest(token.text, known)
    hint = f"did you mean {near!r}?" if near else f"one of {', '.join(known)}"
    return controller.error(f"unknown {kind} {token.text!r}", token, hint)


def _match(controller: Controller, settings: Settings) -> None:
    token = controller.argument("match name, or match subdomains")
    if token.text not in _SCOPES:
        raise _unknown(controller, token, "value", list(_SCOPES))
    settings.plain_scope = _SCOPES[token.text]


def _ede(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: ede filtered, or ede off")
    if token.text not in _ERRORS:
        raise _unknown(controller, token, "extended error", list(_ERRORS))
    settings.actions = replace(settings.actions, ede=_ERRORS[token.text])


def _ttl(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: ttl 60")
    seconds = controller.integer(token)
    if not 0 <= seconds <= LONGEST_TTL:
        hint = f"a number of seconds from 0 to {LONGEST_TTL}"
        raise controller.error(f"ttl {token.text} is out of range", token, hint)
    settings.actions = replace(settings.actions, ttl=seconds)


def _reload(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: reload 1m, or reload 0")
    seconds = controller.duration(token)
    if seconds < 0:
        hint = "0 disables the reload"
        raise controller.error(f"negative duration for reload {token.text!r}", token, hint)
    settings.reload = seconds and max(seconds, SHORTEST_RELOAD)
