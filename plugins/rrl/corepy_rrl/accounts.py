"""The balances of the accounts (github.com/coredns/rrl: plugins/rrl/rrl.go, debit).

An account is one number: the time from which the next response is allowed, so its balance in
seconds is the time since then. It grows with the clock up to a second, and each response costs the
interval of its rate. A response that makes it negative is over the limit, and costs as much, down
to minus the window: a client that continues to ask is blocked until it has paused.
"""

from __future__ import annotations

from typing import Final

from corepy.net.time_table import TimeTable

_MOST_POSITIVE: Final = 1.0
"""Seconds."""

ROUNDING: Final = 0.001
"""The part of an interval that may be missing, since sums of times are not exact."""


class Accounts:
    """All accounts of one directive, by keys."""

    def __init__(self, size: int, window: float, slip_ratio: int) -> None:
        """Keep `size` accounts; `window` is in seconds.

        Every `slip_ratio`-th response over the limit of an account slips through, none if it is 0.
        """
        self._window = window
        self._slip_ratio = slip_ratio
        self._times = TimeTable(size, max(window, _MOST_POSITIVE))
        self._slips = TimeTable(size, max(window, _MOST_POSITIVE))

    def debit(self, key: int, interval: float, now: float) -> bool:
        """Take `interval` seconds from the account; return whether its balance is negative."""
        times = self._times
        if now >= times.due:
            times.turn(now)
            self._slips.turn(now)
        balance = now - times.get(key) - interval
        if balance >= _MOST_POSITIVE:
            # The original subtracts an interval above a second too, and denies all then.
            balance = max(_MOST_POSITIVE - interval, 0.0)
        elif balance < -self._window:
            balance = -self._window
        times.put(key, now - balance)
        return balance < -ROUNDING * interval

    def balance(self, key: int, now: float) -> float:
        """Return the balance of an account in seconds, before the next response."""
        return min(now - self._times.view(key), _MOST_POSITIVE)

    def slips(self, key: int) -> bool:
        """Return whether a response over the limit slips through, and count it."""
        if not self._slip_ratio:
            return False
        count = max(self._slips.get(key), 0.0) + 1
        does_slip = count >= self._slip_ratio
        self._slips.put(key, 0.0 if does_slip else count)
        return does_slip

    def __len__(self) -> int:
        """Return the number of accounts that are kept exactly."""
        return len(self._times)
