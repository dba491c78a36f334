"""Parses the directive (CoreDNS: plugin/grpc/setup.go, plugin/pkg/parse/host.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import names
from corepy.plugin import Mistakes
from corepy.plugin.tls_client import TLSFiles, client_context
from corepy.plugin.upstream_words import read_upstreams
from corepy_grpc.handler import GRPC, Settings
from corepy_grpc.policies import POLICIES
from corepy_grpc.upstream import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller, Token

MOST_TARGETS: Final = 15
_UNIX: Final = "unix://"
_SCHEMES: Final = ("dns", "grpc")


def setup(controller: Controller) -> None:
    """Add the handler."""
    for _ in controller.single("use several upstreams in one line"):
        controller.add_handler(GRPC(_Line(controller).read(), controller.config))


class _Line:
    """Parses the directive into `Settings`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._settings = Settings()
        self._files: TLSFiles | None = None

    def read(self) -> Settings:
        c, settings, mistakes = self._c, self._settings, Mistakes()
        zone, *targets = c.arguments(2, hint="such as: grpc . 192.0.2.1:443")
        with mistakes:
            c.options(self._table())
        with mistakes:
            self._from(zone)
        with mistakes:
            settings.targets = self._targets(targets)
        mistakes.settle()
        if len(settings.targets) > MOST_TARGETS:
            count = len(settings.targets)
            raise c.error(f"more than {MOST_TARGETS} TOs configured: {count}", targets[0])
        if self._files is not None or settings.server_name:
            self._make_context(self._files or TLSFiles(), targets[0])
        return settings

    def _table(self) -> dict[str, Callable[[], None]]:
        return {
            "except": self._except,
            "tls": self._tls,
            "tls_servername": self._tls_servername,
            "policy": self._policy,
            "fallthrough": self._fallthrough,
        }

    def _from(self, token: Token) -> None:
        zones = self._c.zones_of(token)
        if len(zones) > 1:
            self._c.warn(
                f"'{token.text}' expands to {len(zones)} zones; only '{zones[0]}' is forwarded",
                token,
            )
        self._settings.zone = zones[0]

    def _targets(self, tokens: list[Token]) -> list[Target]:
        """Return the upstreams; a file without name servers adds none, as in CoreDNS."""
        found: list[Target] = []
        words = [token for token in tokens if not token.text.startswith(_UNIX)]
        others = iter(read_upstreams(self._c, words) if words else ())
        by_token: dict[Token, list[Target]] = {token: [] for token in tokens}
        for token, word in others:
            self._check_scheme(token, word.transport)
            by_token[token].append(Target(word.host, word.port))
        for token, targets in by_token.items():
            found += targets if token in words else [self._unix(token)]
        return found

    def _unix(self, token: Token) -> Target:
        path = token.text.removeprefix(_UNIX)
        if not path:
            raise self._c.error(f"invalid address: {token.text!r}", token)
        return Target(path, 0)

    def _check_scheme(self, token: Token, scheme: str) -> None:
        if scheme not in _SCHEMES:
            hint = "for TLS, use the option tls" if scheme == "tls" else None
            raise self._c.error(f"'{scheme}' is not a transport of gRPC upstreams", token, hint)

    def _except(self) -> None:
        self._settings.excluded += self._c.zones_from(self._c.arguments(1))

    def _tls(self) -> None:
        paths = [self._c.path(token) for token in self._c.arguments(0, 3)]
        self._files = TLSFiles.from_paths(paths)

    def _tls_servername(self) -> None:
        token = self._c.argument()
        try:
            names.from_text(token.text)
        except ValueError as error:
            raise self._c.error(
                f"not a server name for TLS: {token.text!r}: {error}", token
            ) from None
        self._settings.server_name = token.text

    def _policy(self) -> None:
        token = self._c.argument()
        if token.text not in POLICIES:
            hint = f"known policies: {', '.join(POLICIES)}"
            raise self._c.error(f"unknown policy '{token.text}'", token, hint)
        self._settings.policy = token.text

    def _fallthrough(self) -> None:
        self._settings.fallthrough = self._c.fallthrough()

    def _make_context(self, files: TLSFiles, token: Token) -> None:
        for path in files.paths:
            self._c.watch_file(path)
        try:
            self._settings.context = client_context(files, ["h2"])
        except (OSError, ValueError) as error:
            raise self._c.error(f"tls: {error}", token) from None
