"""Parse the *azure* directives of a server block (CoreDNS: plugin/azure/setup.go)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text
from corepy.plugin import Fallthrough
from corepy.zone.polled_api import PolledZone
from corepy.zone.polled_options import USUAL_REFRESH, read_refresh
from corepy.zone.polled_source import PolledSettings
from corepy_azure import client, clouds
from corepy_azure.handler import Azure
from corepy_azure.tokens import INSTANCE_METADATA, Account

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.plugin import Controller, Token

_ZONE_HINT: Final = "RESOURCE_GROUP:ZONE, such as dns-zones:example.org"
_ACCESS_HINT: Final = "access public, or access private"
_KINDS: Final = {"public": client.PUBLIC, "private": client.PRIVATE}

INSTANCE_VARIABLE: Final = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""Another address of the metadata service, as in Azure's SDKs."""


@dataclass(slots=True)
class _Options:
    """The options of all directives of a block: the last value of each applies (CoreDNS)."""

    values: dict[str, str] = field(default_factory=dict)
    is_instance: bool = False
    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    refresh: float = USUAL_REFRESH
    zones: dict[tuple[str, str], str] = field(default_factory=dict)
    """The kind of each zone, by resource group and name as they are written."""


def setup(controller: Controller) -> None:
    """Add one handler for all directives of the block."""
    options = _Options()
    directive: Token | None = None
    for _ in controller.occurrences():
        directive = directive or controller.token
        zones = [_zone(controller, token, options) for token in controller.remaining_tokens()]
        controller.options(_table(controller, options, zones))
    account = _account(controller, options, directive)
    if options.is_instance and account.instance is None:
        controller.warn("instance_metadata has no effect: the option secret is used", directive)
    if not options.zones:
        controller.warn("azure has no zones, so it has no effect", directive, _ZONE_HINT)
    elif account.missing:
        controller.warn(account.missing, directive)
    settings = PolledSettings(
        "azure",
        account,
        options.refresh,
        place=(account.cloud, account.subscription),
        make_client=partial(client.Client, account),
    )
    controller.add_handler(Azure(settings, _polled(options), options.fallthrough))


def _zone(controller: Controller, token: Token, options: _Options) -> tuple[str, str]:
    group, _, name = token.text.partition(":")
    if not group or not name:
        message = f"invalid resource group/zone: {token.text!r}"
        raise controller.error(message, token, _ZONE_HINT)
    if "/" in group:
        raise controller.error("the name of a resource group has no slash", token, _ZONE_HINT)
    try:
        from_text(name)
    except InvalidName as error:
        raise controller.error(f"invalid zone {name!r}: {error}", token, _ZONE_HINT) from None
    if (group, name) in options.zones:
        hint = "a zone is copied once, either public or private"
        raise controller.error(f"conflicting zone: {token.text!r}", token, hint)
    options.zones[group, name] = client.PUBLIC
    return group, name


def _polled(options: _Options) -> list[PolledZone]:
    return [
        PolledZone(from_text(name).lower(), client.HostedZone(group, kind, _stripped(name)).id)
        for (group, name), kind in options.zones.items()
    ]


def _stripped(name: str) -> str:
    """Return the name of a zone as Azure has it, without a dot at its end."""
    return name.removesuffix(".") or name


def _table(
    controller: Controller, options: _Options, zones: list[tuple[str, str]]
) -> Mapping[str, Callable[[], None]]:
    def read(name: str) -> Callable[[], None]:
        return lambda: _value(controller, options, name)

    return {
        "subscription": read("subscription"),
        "tenant": read("tenant"),
        "client": read("client"),
        "secret": read("secret"),
        "environment": lambda: _environment(controller, options),
        "access": lambda: _access(controller, options, zones),
        "fallthrough": lambda: setattr(options, "fallthrough", controller.fallthrough()),
        "instance_metadata": lambda: _instance(controller, options),
        "refresh": lambda: setattr(options, "refresh", read_refresh(controller)),
    }


def _value(controller: Controller, options: _Options, name: str) -> None:
    """Read an option with one value; as in CoreDNS, that of a later directive replaces it."""
    token = controller.next_argument(f"{name} {'CLIENT_SECRET' if name == 'secret' else 'ID'}")
    if name == "secret":
        token.hide()
    before = options.values.get(name)
    if before not in (None, token.text):
        hint = "one identity reads all zones of a server block"
        controller.warn(f"this {name} replaces the one above, as in CoreDNS", token, hint)
    options.values[name] = token.text


def _environment(controller: Controller, options: _Options) -> None:
    token = controller.next_argument(f"one of {clouds.NAMES}")
    try:
        clouds.cloud_of(os.environ, token.text)
    except ValueError as error:
        message = f"cannot set azure environment: {error}"
        raise controller.error(message, token, f"one of {clouds.NAMES}") from None
    options.values["environment"] = token.text


def _access(controller: Controller, options: _Options, zones: list[tuple[str, str]]) -> None:
    token = controller.next_argument(_ACCESS_HINT)
    kind = _KINDS.get(token.text)
    if kind is None:
        message = f"invalid access value: can be public/private, found: {token.text!r}"
        raise controller.error(message, token, _ACCESS_HINT)
    options.zones |= dict.fromkeys(zones, kind)


def _instance(controller: Controller, options: _Options) -> None:
    controller.arguments(0, 0, "instance_metadata has no argument; name an identity with client")
    options.is_instance = True


def _account(controller: Controller, options: _Options, directive: Token | None) -> Account:
    """Return the account of the options, completed by the environment as Azure's SDKs do."""
    values, environ = options.values, os.environ
    try:
        cloud = clouds.cloud_of(environ, values.get("environment", ""))
        instance = _instance_target(environ) if options.is_instance else None
    except ValueError as error:
        raise controller.error(str(error), directive) from None
    secret, file = values.get("secret", ""), ""
    if not secret and instance is None:
        secret = environ.get("AZURE_CLIENT_SECRET", "")
        file = "" if secret else environ.get("AZURE_FEDERATED_TOKEN_FILE", "")
    return Account(
        cloud,
        subscription=values.get("subscription") or environ.get("AZURE_SUBSCRIPTION_ID", ""),
        tenant=values.get("tenant") or environ.get("AZURE_TENANT_ID", ""),
        client=values.get("client") or environ.get("AZURE_CLIENT_ID", ""),
        secret=secret,
        token_file=Path(file) if file else None,
        instance=instance if not secret else None,
    )


def _instance_target(environ: Mapping[str, str]) -> HTTPTarget:
    url = environ.get(INSTANCE_VARIABLE, "")
    try:
        return clouds.secure_target(url) if url else INSTANCE_METADATA
    except ValueError as error:
        raise ValueError(f"the variable {INSTANCE_VARIABLE}: {error}") from None
