"""Parses the ACME form of the *tls* directive (CoreDNS: plugin/tls/acme.go)."""

from __future__ import annotations

import ipaddress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from corepy.http.http_client import parse_url
from corepy.plugin import Root, parse_unsigned
from corepy.plugin.tls_client import system_context
from corepy_tls.acme_settings import AcmeConfigs, AcmeSettings, read_domain
from corepy_tls.challenges import ChallengeHandler

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from corepy.plugin import Controller, Token

DEFAULT_STORAGE = ".coredns/acme"
"""CoreDNS's, below the folder that *root* sets."""

OPTIONS = ("acme", "email", "ca", "storage", "ca_root", "resolver")


def parse_acme(controller: Controller, directive: Token) -> AcmeSettings:
    """Return the settings of one occurrence without arguments, and answer its challenges."""
    settings = _Options(controller).read(directive)
    if find_spec("cryptography") is None:
        hint = "install it: pip install 'corepy-dns[tls]'"
        raise controller.error("ACME needs the Python package cryptography", directive, hint)
    configs = controller.shared(AcmeConfigs)
    if not configs.found:
        controller.add_to_every_chain(partial(ChallengeHandler, configs.found))
    try:
        configs.add(settings)
    except ValueError as error:
        hint = "give all directives with this domain the same options"
        raise controller.error(str(error), directive, hint) from None
    return settings


class _Options:
    """The lines of one block, each at most once."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._values: dict[str, Any] = {}
        self._seen: set[str] = set()

    def read(self, directive: Token) -> AcmeSettings:
        """Parse the block; raises `CorefileError`."""
        controller = self._controller
        controller.options({name: partial(self._once, name) for name in OPTIONS})
        if "domains" not in self._values:
            hint = "give a certificate and a key: tls CERT KEY; or in a block: acme DOMAIN..."
            raise controller.error("ACME requires at least one domain", directive, hint)
        default = (controller.config.get(Root).folder / DEFAULT_STORAGE).absolute()
        return AcmeSettings(**{"storage": default, **self._values})

    def _once(self, name: str) -> None:
        if name in self._seen:
            raise self._controller.error(f"ACME option {name!r} can only be specified once")
        self._seen.add(name)
        getattr(self, f"_{name}")()

    def _acme(self) -> None:
        domains = [self._domain(token) for token in self._controller.arguments(1)]
        self._values["domains"] = tuple(sorted(set(domains)))

    def _domain(self, token: Token) -> str:
        try:
            return read_domain(token.text)
        except ValueError as error:
            hint = "write a domain name; only its first label may be *"
            raise self._controller.error(str(error), token, hint) from None

    def _email(self) -> None:
        self._values["email"] = self._controller.argument().text

    def _ca(self) -> None:
        token = self._controller.argument()
        try:
            parse_url(token.text)
        except ValueError as error:
            message = f"invalid ACME CA URL {token.text!r}"
            raise self._controller.error(message, token, str(error)) from None
        self._values["ca"] = token.text

    def _storage(self) -> None:
        token = self._controller.argument()
        self._values["storage"] = self._controller.path(token).absolute()

    def _ca_root(self) -> None:
        token = self._controller.argument()
        path = self._controller.path(token).absolute()
        self._controller.watch_file(path)
        try:
            roots_context(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it contains no certificates"
            message = f"reading ACME CA root {str(path)!r}: {reason}"
            raise self._controller.error(message, token) from None
        self._values["ca_root"] = path

    def _resolver(self) -> None:
        token = self._controller.argument()
        host, colon, port = token.text.rpartition(":")
        try:
            address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        except ValueError:
            colon = ""
        if not colon:
            hint = "write the IP address and the port of a name server: 192.0.2.53:53"
            raise self._controller.error(f"invalid ACME resolver {token.text!r}", token, hint)
        number = parse_unsigned(port, 65535)
        if not number:
            raise self._controller.error(f"invalid ACME resolver port {port!r}", token)
        self._values["resolver"] = address, number


def roots_context(path: Path | None) -> ssl.SSLContext:
    """Return a client's context that trusts the system's authorities and those in a file.

    Raises OSError, also for a file without certificates.
    """
    context = system_context()
    if path is not None:
        context.load_verify_locations(path)
    return context
