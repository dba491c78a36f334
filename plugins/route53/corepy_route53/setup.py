"""Parse the *route53* directive (CoreDNS: plugin/route53/setup.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text
from corepy.http.http_client import parse_url
from corepy.http.json_api import is_protected
from corepy.plugin import Fallthrough, parse_integer
from corepy.zone.polled_api import PolledZone
from corepy.zone.polled_source import PolledSettings
from corepy_route53.api import Route53Client
from corepy_route53.handler import Route53
from corepy_route53.options import Environment, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from corepy.http.http_client import HTTPTarget
    from corepy.plugin import Controller, Token

REFRESH: Final = 60.0
SHORTEST_REFRESH: Final = 1.0
"""Seconds between two lists of a hosted zone."""

_ZONE_HINT: Final = "a name and the ID of its hosted zone, such as example.org:Z1Z2Z3Z4DZ5Z6Z7"
_ID_PREFIX: Final = "/hostedzone/"


@dataclass(slots=True)
class _Line:
    """The options of one directive."""

    keys: tuple[str, str] | None = None
    endpoint: HTTPTarget | None = None
    profile: str = ""
    file: Path | None = None
    instance_metadata: bool = False
    refresh: float = REFRESH
    fallthrough: Fallthrough = field(default_factory=Fallthrough)


def setup(controller: Controller) -> None:
    """Add a handler for each directive."""
    for _ in controller.occurrences():
        directive = controller.token
        zones = _zones(controller)
        if not zones:
            controller.warn("route53 has no zones, so it has no effect", directive, _ZONE_HINT)
        line = _Line()
        controller.options(_options(controller, line))
        environment = Environment.current()
        if line.endpoint is None:
            _check_environment(controller, directive, environment)
        options = Options(
            line.keys,
            line.endpoint,
            line.profile,
            line.file,
            line.instance_metadata,
            environment,
        )
        make_client = partial(Route53Client, options)
        settings = PolledSettings(
            "route53",
            options,
            line.refresh,
            place=("hosted zones", line.endpoint),
            make_client=make_client,
        )
        controller.add_handler(Route53(settings, zones, line.fallthrough))


def _zones(controller: Controller) -> list[PolledZone]:
    """Return the zones of the directive's line, in their order."""
    zones: dict[str, PolledZone] = {}
    for token in controller.remaining_tokens():
        name, _, zone_id = token.text.partition(":")
        zone_id = zone_id.removeprefix(_ID_PREFIX)
        if not name or not zone_id:
            raise controller.error(f"invalid zone {token.text!r}", token, _ZONE_HINT)
        if token.text in zones:
            hint = "each hosted zone is named once"
            raise controller.error(f"conflict zone {token.text!r}", token, hint)
        try:
            origin = from_text(name).lower()
        except InvalidName as error:
            raise controller.error(f"invalid zone: {error}", token, _ZONE_HINT) from None
        zones[token.text] = PolledZone(origin, zone_id)
    return list(zones.values())


def _options(controller: Controller, line: _Line) -> Mapping[str, Callable[[], None]]:
    return {
        "aws_access_key": lambda: _access_key(controller, line),
        "aws_endpoint": lambda: _endpoint(controller, line),
        "credentials": lambda: _credentials(controller, line),
        "fallthrough": lambda: setattr(line, "fallthrough", controller.fallthrough()),
        "instance_metadata": lambda: _instance_metadata(controller, line),
        "refresh": lambda: setattr(line, "refresh", _refresh(controller)),
        "upstream": lambda: _upstream(controller),
    }


def _access_key(controller: Controller, line: _Line) -> None:
    option = controller.token
    hint = "aws_access_key AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
    words = controller.remaining_tokens()
    for word in words if len(words) == 1 else words[1:]:  # one word may be the secret key
        word.hide()
    if len(words) < 2:
        raise controller.error("aws_access_key requires a key ID and a secret key", option, hint)
    line.keys = (words[0].text, words[1].text)
    message = "aws_access_key is deprecated: it puts a secret into the Corefile"
    controller.warn(message, option, "use environment variables, a shared file, or a role")


def _endpoint(controller: Controller, line: _Line) -> None:
    token = controller.next_argument("aws_endpoint https://HOST[:PORT]")
    try:
        line.endpoint = target = parse_url(token.text)
    except ValueError as error:
        hint = "such as https://route53.amazonaws.com"
        raise controller.error(f"endpoint {token.text!r}: {error}", token, hint) from None
    if target.authorization:
        raise controller.error("an endpoint has no user name and password", token)
    _check_encryption(controller, token, target, "the endpoint")


def _check_encryption(
    controller: Controller, token: Token | None, target: HTTPTarget, name: str
) -> None:
    """Warn of an endpoint whose responses anyone in the network can replace."""
    if not is_protected(target):
        message = f"{name} is not encrypted: responses of others in the network are believed"
        controller.warn(message, token, "use https")


def _check_environment(
    controller: Controller, directive: Token | None, environment: Environment
) -> None:
    """Warn of an endpoint in the environment that cannot be used, or is not encrypted."""
    found = environment.endpoint("ROUTE_53")
    if found is None:
        return
    variable, url = found
    try:
        _check_encryption(controller, directive, parse_url(url), variable)
    except ValueError as error:
        controller.warn(f"{variable}: {error}", directive, "correct the environment variable")


def _credentials(controller: Controller, line: _Line) -> None:
    line.profile = controller.next_argument("credentials PROFILE [FILENAME]").text
    if controller.next_arg():
        assert controller.token is not None
        line.file = controller.path(controller.token)


def _instance_metadata(controller: Controller, line: _Line) -> None:
    controller.arguments(0, 0)
    line.instance_metadata = True


def _refresh(controller: Controller) -> float:
    token = controller.next_argument("refresh DURATION, such as 90s or 5m")
    number = parse_integer(token.text)
    seconds = controller.duration(token) if number is None else float(number)
    if seconds <= 0:
        raise controller.error(f"refresh interval must be greater than 0: {token.text!r}", token)
    if seconds < SHORTEST_REFRESH:
        message = f"refresh {token.text} is taken as {SHORTEST_REFRESH:g}s"
        controller.warn(message, token, "the API limits the requests of an account per second")
    return max(seconds, SHORTEST_REFRESH)


def _upstream(controller: Controller) -> None:
    message = "upstream is ignored: aliases are always looked up by this server"
    controller.warn(message, hint="it has no effect in CoreDNS either; remove it")
    controller.remaining_tokens()
