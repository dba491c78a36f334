"""Parse the *etcd* directive (CoreDNS: plugin/etcd/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corepy.http.http_client import parse_url
from corepy.plugin import Fallthrough, ZoneMatcher, parse_duration, parse_unsigned
from corepy.plugin.tls_client import TLSFiles, client_context
from corepy_etcd.gateway import Credentials
from corepy_etcd.handler import USUAL_BOUNDS, Etcd, LeaseBounds
from corepy_etcd.skydns import normalized_path
from corepy_etcd.source import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.plugin import Controller, Token

DEFAULT_ENDPOINT: Final = "http://localhost:2379"
LONGEST_TTL: Final = 0xFFFFFFFF
"""Seconds."""

_TTL_HINT: Final = "a number of seconds, or a duration such as 30s, 5m or 2h30m"
_IGNORED: Final = "it has no effect, as in CoreDNS; remove it"


@dataclass(slots=True)
class _Line:
    """The options of one directive."""

    path: str = "skydns"
    endpoints: list[Token] = field(default_factory=list)
    credentials: Credentials | None = None
    tls: TLSFiles = field(default_factory=TLSFiles)
    tls_token: Token | None = None
    least: int = 0
    most: int = 0
    fallthrough: Fallthrough = field(default_factory=Fallthrough)


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, further directives of a block have no effect."""
    is_first = True
    for _ in controller.occurrences():
        directive = controller.token
        zones = controller.zones_from(controller.remaining_tokens())
        line = _Line()
        controller.options(_options(controller, line))
        if is_first:
            controller.add_handler(_handler(controller, directive, line, zones))
        else:
            hint = "join its zones with those of the first one"
            controller.warn("only the first etcd of a block has an effect", directive, hint)
        is_first = False


def _handler(
    controller: Controller, directive: Token | None, line: _Line, zones: list[str]
) -> Etcd:
    secure = line.tls_token is not None
    endpoints = [_endpoint(controller, token, secure=secure) for token in line.endpoints]
    if not endpoints:
        endpoints = [parse_url(DEFAULT_ENDPOINT)]
    if line.tls_token is not None and all(it.scheme == "http" for it in endpoints):
        message = "tls has no effect: no endpoint begins with https://"
        controller.warn(message, line.tls_token)
    path = normalized_path(line.path)
    settings = Settings(tuple(endpoints), path, line.credentials, line.tls)
    bounds = LeaseBounds(line.least or USUAL_BOUNDS.least, line.most or USUAL_BOUNDS.most)
    if bounds.least > bounds.most:
        message = (
            f"max-lease-ttl ({bounds.most} s) has no effect: it is below min-lease-ttl"
            f" ({bounds.least} s)"
        )
        controller.warn(message, directive, "lower min-lease-ttl as well")
    return Etcd(settings, ZoneMatcher(zones), line.fallthrough, bounds)


def _options(controller: Controller, line: _Line) -> Mapping[str, Callable[[], None]]:
    return {
        "stubzones": lambda: controller.warn("stubzones is ignored", hint=_IGNORED),
        "debug": lambda: controller.warn("debug is ignored", hint=_IGNORED),
        "upstream": lambda: _upstream(controller),
        "fallthrough": lambda: setattr(line, "fallthrough", controller.fallthrough()),
        "path": lambda: setattr(line, "path", controller.next_argument().text),
        "endpoint": lambda: setattr(line, "endpoints", controller.arguments(1)),
        "credentials": lambda: _credentials(controller, line),
        "tls": lambda: _tls(controller, line),
        "min-lease-ttl": lambda: setattr(line, "least", _ttl(controller)),
        "max-lease-ttl": lambda: setattr(line, "most", _ttl(controller)),
    }


def _upstream(controller: Controller) -> None:
    controller.warn("upstream is ignored", hint=_IGNORED)
    controller.remaining_tokens()


def _credentials(controller: Controller, line: _Line) -> None:
    hint = "credentials USERNAME PASSWORD"
    words = controller.arguments(1, hint=hint)
    for word in words if len(words) == 1 else words[1:]:  # one word may be the password
        word.hide()
    if len(words) != 2:
        raise controller.error("credentials requires 2 arguments, username and password", hint=hint)
    user, password = (word.text for word in words)
    line.credentials = Credentials(user, password) if user and password else None


def _tls(controller: Controller, line: _Line) -> None:
    """Parse the option as CoreDNS does: [CA], CERT KEY, or CERT KEY CA (plugin/pkg/tls)."""
    line.tls_token = token = controller.token
    hint = "tls [CA], tls CERT KEY, or tls CERT KEY CA"
    paths = [controller.path(word) for word in controller.arguments(0, 3, hint)]
    line.tls = TLSFiles.from_paths(paths)
    for path in paths:
        controller.watch_file(path)
    try:
        client_context(line.tls, ())
    except OSError as error:
        place = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise controller.error(f"tls: {place}", token, hint) from None
    except ValueError as error:
        raise controller.error(f"tls: {error}", token, hint) from None


def _ttl(controller: Controller) -> int:
    """Return the seconds of a lifetime, a number or a duration in Go's notation."""
    token = controller.next_argument(_TTL_HINT)
    text = token.text.strip()
    number = parse_unsigned(text, LONGEST_TTL) if text else 0
    try:
        seconds = parse_duration(text) if number is None else number
    except ValueError:
        raise controller.error(f"invalid TTL {token.text!r}", token, _TTL_HINT) from None
    if not 0 <= seconds <= LONGEST_TTL:
        hint = f"at most {LONGEST_TTL} seconds, and not negative"
        raise controller.error(f"TTL {token.text!r} is out of range", token, hint)
    return int(seconds)


def _endpoint(controller: Controller, token: Token, *, secure: bool) -> HTTPTarget:
    """Return the parts of an endpoint; without a scheme it is https with the option `tls`."""
    text = token.text
    if "://" not in text:
        text = f"{'https' if secure else 'http'}://{text}"
    try:
        target = parse_url(text)
    except ValueError as error:
        hint = "such as http://192.0.2.1:2379"
        raise controller.error(f"endpoint {token.text!r}: {error}", token, hint) from None
    if target.authorization:
        hint = "use the option credentials"
        raise controller.error("an endpoint has no user name and password", token, hint)
    if target.path.strip("/"):
        controller.warn(f"the path of {token.text!r} is ignored", token)
    return target
