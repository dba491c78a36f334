"""Parse the *ratelimit* directive (github.com/milgradesec/ratelimit: setup.go, and own options)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.net.client_prefix import IPV4_BITS, IPV6_BITS
from corepy.net.networks import read_network
from corepy.plugin import Denial, Mistakes
from corepy_ratelimit.handler import RateLimit
from corepy_ratelimit.limiter import Limiter, Settings
from corepy_ratelimit.networks import LOOPBACK, Networks

if TYPE_CHECKING:
    from corepy.net.networks import Network
    from corepy.plugin import Controller, Token

ACTIONS: Final = {denial.value: denial for denial in Denial}
MOST_RATE: Final = 10_000_000
MOST_SIZE: Final = 1_000_000
MOST_SLIP: Final = 100


def setup(controller: Controller) -> None:
    """Add the handler with its gate."""
    for _ in controller.single():
        settings = _Options(controller).read()
    controller.add_handler(RateLimit(Limiter(settings)))


class _Options:
    """Parses one directive into `Settings`."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._settings = Settings()
        self._networks: list[Network] = []

    def read(self) -> Settings:
        c, settings = self._c, self._settings
        mistakes = Mistakes()
        arguments = c.arguments()
        with mistakes:
            c.options(
                {
                    "whitelist": self._whitelist,
                    "exempt": self._exempt,
                    "burst": self._burst,
                    "ipv4_prefix": lambda: self._number("ipv4_prefix", 1, IPV4_BITS),
                    "ipv6_prefix": lambda: self._number("ipv6_prefix", 1, IPV6_BITS),
                    "action": self._action,
                    "slip": lambda: self._number("slip", 0, MOST_SLIP),
                    "size": lambda: self._number("size", 1, MOST_SIZE),
                    "report_only": self._report_only,
                }
            )
        with mistakes:
            self._limit(arguments)
        mistakes.settle()
        settings.exempt = Networks(self._networks)
        return settings

    def _limit(self, arguments: list[Token]) -> None:
        if not arguments:
            return
        first, *others = arguments
        limit = self._c.integer(first)
        if not 1 <= limit <= MOST_RATE:
            hint = f"queries a second of one client, from 1 to {MOST_RATE}"
            raise self._c.error(f"the limit {first.text} is out of range", first, hint)
        self._settings.limit = limit
        if others:
            self._c.warn("only the first argument, the limit, has a meaning", others[0])

    def _integer(self, name: str, least: int, most: int) -> int:
        token = self._c.argument()
        value = self._c.integer(token)
        if not least <= value <= most:
            hint = f"a number from {least} to {most}"
            raise self._c.error(f"{name} {token.text} is out of range", token, hint)
        return value

    def _number(self, name: str, least: int, most: int) -> None:
        setattr(self._settings, name, self._integer(name, least, most))

    def _burst(self) -> None:
        self._settings.burst = self._integer("burst", 1, MOST_RATE)

    def _whitelist(self) -> None:
        """Read `whitelist [IPs...]`; as in the original, other words have no effect."""
        for token in self._c.arguments():
            try:
                self._networks.append(read_network(token.text))
            except ValueError:
                self._c.warn(f"not an IP address: {token.text!r}; it is ignored", token)

    def _exempt(self) -> None:
        for token in self._c.arguments(1, hint="such as: exempt 192.0.2.0/24 loopback"):
            words = LOOPBACK if token.text == "loopback" else (token.text,)
            try:
                self._networks += [read_network(word) for word in words]
            except ValueError:
                message = f"not an IP address or a network: {token.text!r}"
                hint = "such as 192.0.2.1, 2001:db8::/32 or loopback"
                raise self._c.error(message, token, hint) from None

    def _action(self) -> None:
        token = self._c.argument()
        if token.text not in ACTIONS:
            raise self._c.error(
                f"unknown action {token.text!r}", token, f"known actions: {', '.join(ACTIONS)}"
            )
        self._settings.action = ACTIONS[token.text]

    def _report_only(self) -> None:
        self._c.arguments(0, 0)
        self._settings.is_report = True
