"""Parse the *rrl* directive (github.com/coredns/rrl: plugins/rrl/setup.go)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from corepy.net.client_prefix import IPV6_BITS
from corepy_rrl.category import Category
from corepy_rrl.gates import Settings
from corepy_rrl.handler import ResponseRateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller, Token

RATES: Final = {
    "responses-per-second": Category.RESPONSE,
    "nodata-per-second": Category.NODATA,
    "nxdomains-per-second": Category.NXDOMAIN,
    "referrals-per-second": Category.REFERRAL,
    "errors-per-second": Category.ERROR,
}
MOST_SLIP: Final = 10
MOST_SIZE: Final = 10_000_000


def setup(controller: Controller) -> None:
    """Add the handler."""
    settings = Settings()
    for _ in controller.single():
        directive = controller.token
        settings.zones = controller.zones_from(controller.arguments())
        controller.options(_Options(controller, settings).table())
        if not (any(settings.intervals.values()) or settings.request_interval):
            hint = "add an allowance, such as: responses-per-second 10"
            controller.warn("rrl without an allowance limits nothing", directive, hint)
    controller.add_handler(ResponseRateLimit(settings))


class _Options:
    """Stores the options of the block in the settings."""

    def __init__(self, controller: Controller, settings: Settings) -> None:
        self._c = controller
        self._settings = settings

    def table(self) -> dict[str, Callable[[], None]]:
        rates = {name: self._rate_of(category) for name, category in RATES.items()}
        return {
            **rates,
            "requests-per-second": self._requests,
            "window": self._window,
            "ipv4-prefix-length": self._ipv4_prefix,
            "ipv6-prefix-length": self._ipv6_prefix,
            "slip-ratio": self._slip_ratio,
            "max-table-size": self._table_size,
            "report-only": self._report_only,
        }

    def _rate_of(self, category: Category) -> Callable[[], None]:
        def read() -> None:
            self._settings.intervals[category] = self._interval()

        return read

    def _requests(self) -> None:
        self._settings.request_interval = self._interval()

    def _interval(self) -> float:
        """Return the seconds between two messages at the rate of the option; 0 for no limit."""
        token = self._c.argument()
        rate = self._number(token)
        if rate < 0:
            raise self._c.error(f"{token.text} cannot be negative", token)
        return 1.0 / rate if rate else 0.0

    def _number(self, token: Token) -> float:
        text = token.text
        try:
            number = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self._c.error(f"{text} invalid value: not a number", token, "such as 10 or 0.5")
        return number

    def _window(self) -> None:
        token = self._c.argument()
        seconds = self._number(token)
        if seconds <= 0:
            raise self._c.error("window must be greater than zero", token)
        self._settings.window = seconds

    def _integer(self, least: int, most: int) -> int:
        token = self._c.argument()
        number = self._c.integer(token)
        if not least <= number <= most:
            raise self._c.error(f"{token.text} must be between {least} and {most}", token)
        return number

    def _ipv4_prefix(self) -> None:
        self._settings.ipv4_prefix = self._integer(1, 32)

    def _ipv6_prefix(self) -> None:
        length = self._integer(1, 128)
        if length > IPV6_BITS:
            self._c.warn(
                f"the addresses of a /{IPV6_BITS} share their accounts",
                hint=f"use a length of at most {IPV6_BITS}: a host can use a whole /{IPV6_BITS}",
            )
        self._settings.ipv6_prefix = min(length, IPV6_BITS)

    def _slip_ratio(self) -> None:
        self._settings.slip_ratio = self._integer(0, MOST_SLIP)

    def _table_size(self) -> None:
        self._settings.table_size = self._integer(0, MOST_SIZE)

    def _report_only(self) -> None:
        self._c.arguments(0, 0)
        self._settings.is_report = True
