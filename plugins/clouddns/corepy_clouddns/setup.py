"""Parse the *clouddns* directives of a server block (CoreDNS: plugin/clouddns/setup.go)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text
from corepy.http.http_client import HTTPTarget, parse_url
from corepy.http.json_api import is_protected
from corepy.plugin import Fallthrough
from corepy.zone.polled_api import PolledZone
from corepy.zone.polled_options import USUAL_REFRESH, read_refresh
from corepy.zone.polled_source import PolledSettings
from corepy_clouddns.client import Client
from corepy_clouddns.credentials import UnusableFile, type_in, usual_file
from corepy_clouddns.handler import CloudDNS
from corepy_clouddns.tokens import INSTANCE_METADATA, NO_CREDENTIALS, Account

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.plugin import Controller, Token

SERVER: Final = HTTPTarget("https", "dns.googleapis.com", 443, "")

_ZONE_HINT: Final = "ZONE:PROJECT_ID:HOSTED_ZONE_NAME, such as example.org:my-project:my-zone"

INSTANCE_VARIABLE: Final = "GCE_METADATA_HOST"
"""Another address of the metadata server, as in Google's SDKs."""


@dataclass(slots=True)
class _Options:
    """The options of one directive."""

    account: Account = field(default_factory=lambda: Account(SERVER))
    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    refresh: float = USUAL_REFRESH


def setup(controller: Controller) -> None:
    """Add a handler for each directive of the block, as CoreDNS does."""
    for _ in controller.occurrences():
        directive = controller.token
        zones: dict[str, PolledZone] = {}
        for token in controller.remaining_tokens():
            if token.text in zones:
                raise controller.error(f"conflict zone {token.text!r}", token, "remove one of them")
            zones[token.text] = _zone(controller, token)
        options = _Options()
        controller.options(_table(controller, options))
        _warn(controller, directive, options, has_zones=bool(zones))
        account = options.account
        settings = PolledSettings(
            "clouddns",
            account,
            options.refresh,
            place=account.server,
            make_client=partial(Client, account),
        )
        controller.add_handler(CloudDNS(settings, list(zones.values()), options.fallthrough))


def _zone(controller: Controller, token: Token) -> PolledZone:
    """Return a zone; the ID of a project may have a colon (example.com:my-project), a name not."""
    name, _, hosted = token.text.partition(":")
    project, _, hosted_name = hosted.rpartition(":")
    if not name or not project or not hosted_name:
        raise controller.error(f"invalid zone {token.text!r}", token, _ZONE_HINT)
    try:
        return PolledZone(from_text(name).lower(), hosted)
    except InvalidName as error:
        raise controller.error(f"invalid zone {name!r}: {error}", token, _ZONE_HINT) from None


def _table(controller: Controller, options: _Options) -> Mapping[str, Callable[[], None]]:
    return {
        "upstream": lambda: _upstream(controller),
        "credentials": lambda: _credentials(controller, options),
        "endpoint": lambda: _endpoint(controller, options),
        "instance_metadata": lambda: _instance(controller, options),
        "fallthrough": lambda: setattr(options, "fallthrough", controller.fallthrough()),
        "refresh": lambda: setattr(options, "refresh", read_refresh(controller)),
    }


def _upstream(controller: Controller) -> None:
    controller.warn("upstream is ignored", hint="it has no effect, as in CoreDNS; remove it")
    controller.remaining_tokens()


def _credentials(controller: Controller, options: _Options) -> None:
    """Read the option; as in CoreDNS, the file must have a known type now, and be valid later."""
    token = controller.next_argument("credentials FILE")
    path = controller.path(token)
    try:
        type_in(path)
    except UnusableFile as error:
        raise controller.error(f"invalid credentials file {token.text!r}: {error}", token) from None
    except OSError as error:
        message = f"invalid credentials file {token.text!r}: {error.strerror}"
        raise controller.error(message, token) from None
    options.account = replace(options.account, file=path)


def _endpoint(controller: Controller, options: _Options) -> None:
    token = controller.argument("endpoint URL, such as https://dns-mine.p.googleapis.com")
    try:
        target = parse_url(token.text)
    except ValueError as error:
        raise controller.error(f"endpoint {token.text!r}: {error}", token) from None
    if target.authorization or "?" in target.path:
        raise controller.error("an endpoint has no user name, password or query", token)
    if not is_protected(target):
        hint = "it gets the tokens of your account: begin it with https://"
        raise controller.error(f"endpoint {token.text!r} is not protected", token, hint)
    options.account = replace(options.account, server=target)


def _instance(controller: Controller, options: _Options) -> None:
    controller.arguments(0, 0, "instance_metadata has no argument")
    host = os.environ.get(INSTANCE_VARIABLE, "")
    try:
        target = parse_url(f"http://{host}") if host else INSTANCE_METADATA
    except ValueError as error:
        raise controller.error(f"the variable {INSTANCE_VARIABLE}: {error}") from None
    options.account = replace(options.account, instance=target)


def _warn(
    controller: Controller, directive: Token | None, options: _Options, *, has_zones: bool
) -> None:
    account = options.account
    if not has_zones:
        controller.warn("clouddns has no zones, so it has no effect", directive, _ZONE_HINT)
    elif account.instance is not None and account.file is not None:
        message = "instance_metadata has no effect: the option credentials is used"
        controller.warn(message, directive)
    elif account.instance is None and account.file is None and usual_file(os.environ) is None:
        controller.warn(NO_CREDENTIALS, directive)
