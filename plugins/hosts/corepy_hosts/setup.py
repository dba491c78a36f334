"""Parse the *hosts* directive (CoreDNS: plugin/hosts/setup.go)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import Fallthrough, Mistakes, ZoneMatcher, suggest
from corepy_hosts.handler import Hosts
from corepy_hosts.hosts_file import HostsFile
from corepy_hosts.parsing import HostsParser, Unusable
from corepy_hosts.reverse import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, Token

DEFAULT_FILE: Final = Path("/etc/hosts")
DEFAULT_TTL: Final = 3600
LONGEST_TTL: Final = 65535
"""Seconds."""

DEFAULT_RELOAD: Final = 5.0
"""Seconds."""


_LINE_HINT: Final = "a line is an address and its names, such as 192.0.2.1 host.example.org"


@dataclass(slots=True)
class Settings:
    """The arguments and options of one directive."""

    path: Path = DEFAULT_FILE
    zones: list[str] = field(default_factory=list)
    inline: list[bytes] = field(default_factory=list)
    ttl: int = DEFAULT_TTL
    with_reverse: bool = True
    reload: float = DEFAULT_RELOAD
    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    passes_unsupported: Token | None = None


def setup(controller: Controller) -> None:
    """Add the handler, and load its file at the start."""
    settings = Settings()
    for _ in controller.single():
        _arguments(controller, settings)
        _block(controller, settings)
    if settings.passes_unsupported and not settings.fallthrough.zones:
        message = "fallthrough_unsupported requires fallthrough"
        raise controller.error(message, settings.passes_unsupported, "add the option fallthrough")
    zones = ZoneMatcher(settings.zones)
    file = HostsFile(
        settings.path,
        settings.inline,
        zones,
        with_reverse=settings.with_reverse,
        interval=settings.reload,
    )
    controller.register(file)
    handler = Hosts(
        file,
        zones,
        settings.fallthrough,
        ttl=settings.ttl,
        passes_unsupported=settings.passes_unsupported is not None,
    )
    controller.add_handler(handler)


def _arguments(controller: Controller, settings: Settings) -> None:
    file, *zones = controller.remaining_tokens() or (None,)
    if file is not None:
        settings.path = controller.path(file)
        _examine(controller, settings.path, file)
    settings.zones = controller.zones_from([zone for zone in zones if zone is not None])


def _examine(controller: Controller, path: Path, token: Token) -> None:
    """Warn about a file that cannot be read now, but perhaps later; raises `CorefileError`."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        controller.warn(f"File does not exist: {path}", token, "the first argument is the file")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise controller.error(f"unable to access hosts file '{path}': {reason}", token) from None
    else:
        if stat.S_ISDIR(mode):
            controller.warn(f"Hosts file '{path}' is a directory", token, "name a file in it")


def _block(controller: Controller, settings: Settings) -> None:
    """Parse the options and the lines of the hosts file; after `fallthrough` no lines follow."""
    options = _options(controller, settings)
    mistakes = Mistakes()
    while controller.next_block():
        with controller.statement(mistakes):
            option = options.get(controller.val)
            if option is not None:
                option()
            elif not settings.fallthrough.zones:
                _inline(controller, settings, options)
            else:
                raise _after_fallthrough(controller, options)
    mistakes.settle()


def _options(controller: Controller, settings: Settings) -> Mapping[str, Callable[[], None]]:
    return {
        "ttl": lambda: _ttl(controller, settings),
        "reload": lambda: _reload(controller, settings),
        "no_reverse": lambda: setattr(settings, "with_reverse", False),
        "fallthrough": lambda: setattr(settings, "fallthrough", controller.fallthrough()),
        "fallthrough_unsupported": lambda: _fallthrough_unsupported(controller, settings),
    }


def _ttl(controller: Controller, settings: Settings) -> None:
    token, *surplus = controller.arguments(1)
    settings.ttl = controller.integer(token)
    if not 0 < settings.ttl <= LONGEST_TTL:
        hint = f"a number of seconds from 1 to {LONGEST_TTL}"
        raise controller.error(f"ttl {token.text} is out of range", token, hint)
    if surplus:
        controller.warn(f"{surplus[0].text!r} is ignored: ttl takes one number", surplus[0])


def _reload(controller: Controller, settings: Settings) -> None:
    token = controller.argument()
    settings.reload = controller.duration(token)
    if settings.reload < 0:
        hint = "0 disables the reload"
        raise controller.error(f"negative duration for reload {token.text!r}", token, hint)


def _fallthrough_unsupported(controller: Controller, settings: Settings) -> None:
    settings.passes_unsupported = controller.token
    controller.arguments(0, 0)


def _inline(controller: Controller, settings: Settings, options: Mapping[str, object]) -> None:
    """Take a line of the hosts file, or several within quotes."""
    first = controller.token
    assert first is not None
    words = [first, *controller.remaining_tokens()]
    text = " ".join(word.text for word in words).encode("utf-8", "surrogateescape")
    for line in text.split(b"\n"):
        settings.inline.append(line)
        try:
            HostsParser(ZoneMatcher(["."]), with_reverse=False).add_line(line)
        except Unusable as problem:
            _warn(controller, problem, first, options)


def _warn(
    controller: Controller, problem: Unusable, first: Token, options: Mapping[str, object]
) -> None:
    """Warn about a line that cannot be used; CoreDNS skips it silently."""
    near = suggest(first.text, list(options))
    is_address = pack(first.text.encode("utf-8", "surrogateescape")) is not None
    hint = f"did you mean the option {near!r}?" if near and not is_address else _LINE_HINT
    controller.warn(f"this line is ignored: {problem}", first, hint)


def _after_fallthrough(controller: Controller, options: Mapping[str, object]) -> Exception:
    if pack(controller.val.encode("utf-8", "surrogateescape")) is None:
        return controller.unknown_option(options)
    message = f"unknown property {controller.val!r} after fallthrough"
    return controller.error(message, hint="move the lines of the hosts file before fallthrough")
