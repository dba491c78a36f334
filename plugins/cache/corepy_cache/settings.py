"""The settings of one *cache* directive, and their parser.

Follows CoreDNS's plugin/cache/cache.go (New: the defaults) and setup.go (the rules). All times are
in seconds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text
from corepy.plugin import Mistakes, StateFile, parse_duration, parse_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller, CorefileError, Token

MAX_TTL = 3600
"""Default upper bound for positive replies."""

MAX_DENIAL_TTL = 1800
"""Default upper bound for denials."""

MIN_TTL = 5
"""Default lower bound for both, and the default TTL of a cached SERVFAIL."""

DEFAULT_CAPACITY = 9984
"""Default number of entries of each kind: CoreDNS's 256 shards of 39."""

MIN_CAPACITY = 1024
"""CoreDNS's smallest cache: 256 shards of 4 entries."""

_SIZE: Final = re.compile(r"([0-9]{1,18})([KMG]?)(i?)B?", re.ASCII | re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3}
_HOUR = 3600
_LONGEST_FAILURE = 300.0  # RFC 2308 section 7.1
_LARGEST_TTL = 0xFFFFFFFF
_MAX_TTL = 0x7FFFFFFF  # RFC 2181 section 8
_SMALLEST_MEMORY = 1 << 20

FILE_SIZE: Final = 32 << 20
"""Default limit of the entries in the file of `keep`, in bytes."""

_LARGEST_FILE = 1 << 30


@dataclass(slots=True)
class Bounds:
    """Limits of one kind of reply; `except_zones` are lower-case wire names that are not cached."""

    max_ttl: int
    min_ttl: int = MIN_TTL
    capacity: int = DEFAULT_CAPACITY
    except_zones: tuple[bytes, ...] = ()

    def clamp(self, ttl: int) -> int:
        """Return the TTL to cache a reply with, given the TTL of its records."""
        least, most = self.min_ttl, self.max_ttl
        # min() and max() take ten times as long, and this runs for every reply.
        return ttl if least <= ttl <= most else min(max(ttl, least), most)


@dataclass(slots=True)
class Stale:
    """`serve_stale` and `serve_stale_policy`; off while `up_to` is 0."""

    up_to: int = 0
    verify: bool = False
    verify_timeout: float = 0.0
    """Seconds to wait for the chain below; 0 means no limit."""
    response_ttl: int = 0
    recheck: float = 0.0
    prefer_positive: bool = False


@dataclass(slots=True)
class Prefetch:
    """`prefetch`; off while `amount` is 0."""

    amount: int = 0
    duration: float = 60.0
    percentage: int = 10

    def threshold(self, ttl: int) -> int:
        """Return the remaining TTL at which an entry with `ttl` is prefetched."""
        return -(-ttl * self.percentage // 100)


@dataclass(slots=True)
class Settings:
    """The options of one directive; `zones` are in presentation form, normalized."""

    zones: list[str] = field(default_factory=lambda: ["."])
    success: Bounds = field(default_factory=lambda: Bounds(MAX_TTL))
    denial: Bounds = field(default_factory=lambda: Bounds(MAX_DENIAL_TTL))
    prefetch: Prefetch = field(default_factory=Prefetch)
    stale: Stale = field(default_factory=Stale)
    servfail: int = MIN_TTL
    keep_ttl: bool = False
    memory: int = 0
    """Bytes for the whole process; 0 if the directive has no `memory` option."""
    file: StateFile | None = None
    """The file that keeps the entries over a restart."""


def parse_size(text: str) -> int | None:
    """Return the bytes in "65536", "64M", "64MB" (powers of 1000) or "64MiB" (of 1024)."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        return None
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base ** _POWERS[match[2].lower()])


def _seconds(text: str) -> int | None:
    """Return the seconds of a duration such as "30s", or None if `text` is not a duration."""
    try:
        return int(parse_duration(text))
    except ValueError:
        return None


class Parser:
    """Parses one directive into its settings; each option has one method."""

    def __init__(self, controller: Controller, settings: Settings) -> None:
        self._controller = controller
        self._settings = settings
        self._stale_seen = False
        self._policy: Token | None = None

    def directive(self) -> None:
        """Parse the arguments and the options of the directive."""
        mistakes = Mistakes()
        args = self._controller.remaining_tokens()
        with mistakes:
            self._arguments(args)
        with mistakes:
            self._controller.options(self._options())
        mistakes.settle()
        if self._policy and not self._stale_seen:
            raise self._error("serve_stale_policy requires serve_stale", self._policy)

    def _arguments(self, args: list[Token]) -> None:
        """Parse `[TTL] [ZONES...]`."""
        if args and (ttl := parse_integer(args[0].text)) is not None:
            ttl = self._positive_ttl(ttl, args[0])
            self._settings.success.max_ttl = self._settings.denial.max_ttl = ttl
            args = args[1:]
        elif args and (seconds := _seconds(args[0].text)) is not None:
            hint = f"a TTL is in seconds, without a unit: cache {seconds}"
            message = f"{args[0].text!r} is taken as a zone, not as a TTL"
            self._controller.warn(message, args[0], hint)
        self._settings.zones = self._controller.zones_from(args)

    def _options(self) -> dict[str, Callable[[], None]]:
        return {
            "success": lambda: self._bounds(self._settings.success),
            "denial": lambda: self._bounds(self._settings.denial),
            "prefetch": self._prefetch,
            "serve_stale": self._serve_stale,
            "serve_stale_policy": self._serve_stale_policy,
            "servfail": self._servfail,
            "disable": self._disable,
            "keepttl": self._keepttl,
            "memory": self._memory,
            "keep": self._keep,
        }

    def _bounds(self, bounds: Bounds) -> None:
        args = self._controller.arguments(1)
        if len(args) > 3:
            self._controller.warn("everything after MINTTL is ignored", args[3])
        bounds.capacity = self._capacity(args[0])
        if len(args) > 1:
            bounds.max_ttl = self._positive_ttl(self._controller.integer(args[1]), args[1])
        if len(args) > 2:
            lowest = self._controller.integer(args[2])
            if lowest < 0:
                raise self._error(f"cache min TTL can not be negative: {lowest}", args[2])
            bounds.min_ttl = min(lowest, _MAX_TTL)

    def _capacity(self, token: Token) -> int:
        capacity = self._controller.integer(token)
        if capacity < MIN_CAPACITY:
            self._controller.warn(f"a cache holds at least {MIN_CAPACITY} entries", token)
        return max(capacity, MIN_CAPACITY)

    def _prefetch(self) -> None:
        args = self._controller.arguments(1, 3)
        prefetch = self._settings.prefetch
        prefetch.amount = self._controller.integer(args[0])
        if prefetch.amount < 0:
            raise self._error(f"prefetch amount should be positive: {prefetch.amount}", args[0])
        if len(args) > 1:
            prefetch.duration = self._controller.duration(args[1])
        if len(args) > 2:
            prefetch.percentage = self._percentage(args[2])

    def _percentage(self, token: Token) -> int:
        if not token.text.endswith("%"):
            raise self._error("percentage should end in %", token, f"write {token.text}%")
        number = self._controller.integer(token._replace(text=token.text[:-1]))
        if not 10 <= number <= 90:
            raise self._error(f"percentage should fall in range [10, 90]: {number}", token)
        return number

    def _serve_stale(self) -> None:
        args = self._controller.arguments(0, 5)
        old = self._settings.stale
        stale = self._settings.stale = Stale(_HOUR, prefer_positive=old.prefer_positive)
        self._stale_seen = True
        if args:
            stale.up_to = int(self._not_negative(args[0], "duration"))
        if len(args) > 1:
            stale.verify = self._mode(args[1])
        rest = args[2:]
        if stale.verify and rest:
            stale.verify_timeout = self._not_negative(rest[0], "timeout")
            rest = rest[1:]
        if len(rest) > 2:
            raise self._error("too many arguments for serve_stale immediate", rest[2])
        if rest:
            stale.response_ttl = self._response_ttl(rest[0])
        if len(rest) > 1:
            stale.recheck = self._recheck(rest[1])

    def _mode(self, token: Token) -> bool:
        mode = token.text.lower()
        if mode not in ("immediate", "verify"):
            hint = "the modes are immediate and verify"
            raise self._error(f"invalid value for serve_stale refresh mode: {mode}", token, hint)
        return mode == "verify"

    def _response_ttl(self, token: Token) -> int:
        ttl = self._not_negative(token, "response TTL")
        if not ttl.is_integer():
            raise self._error("serve_stale response TTL must be whole seconds", token)
        if ttl > _LARGEST_TTL:
            raise self._error("serve_stale response TTL exceeds the DNS TTL range", token)
        return int(ttl)

    def _recheck(self, token: Token) -> float:
        recheck = self._not_negative(token, "failure recheck")
        if recheck > _LONGEST_FAILURE:
            raise self._error("serve_stale failure recheck cannot exceed 5 minutes", token)
        return recheck

    def _serve_stale_policy(self) -> None:
        if self._policy:
            raise self._error("serve_stale_policy can only be specified once")
        self._policy = self._controller.token
        policy = self._controller.argument()
        if policy.text.lower() != "prefer_positive":
            hint = "the only policy is prefer_positive"
            raise self._error(f"invalid serve_stale_policy: {policy.text}", policy, hint)
        self._settings.stale.prefer_positive = True

    def _servfail(self) -> None:
        token = self._controller.argument()
        lifetime = self._controller.duration(token)
        if lifetime < 0:
            raise self._error("invalid negative TTL for servfail", token)
        if lifetime > _LONGEST_FAILURE:
            raise self._error("SERVFAIL may be cached for at most 5 minutes", token)
        self._settings.servfail = int(lifetime)

    def _disable(self) -> None:
        args = self._controller.arguments(1)
        kinds = {"success": self._settings.success, "denial": self._settings.denial}
        bounds = kinds.get(args[0].text)
        if bounds is None:
            raise self._error('cache type for disable must be "success" or "denial"', args[0])
        bounds.except_zones = tuple(self._wire_zone(token) for token in args[1:]) or (b"\0",)

    def _wire_zone(self, token: Token) -> bytes:
        try:
            return from_text(token.text).lower()
        except InvalidName as error:
            raise self._error(f"invalid disabled zone: {error}", token) from None

    def _keepttl(self) -> None:
        self._controller.arguments(0, 0)
        self._settings.keep_ttl = True

    def _memory(self) -> None:
        token = self._controller.argument()
        size = self._size(token)
        if size < _SMALLEST_MEMORY:
            raise self._error("memory must be at least 1MiB", token)
        self._settings.memory = size

    def _keep(self) -> None:
        args = self._controller.arguments(1, 2)
        if self._settings.file is not None:
            raise self._error("keep can only be specified once")
        size = self._size(args[1]) if len(args) > 1 else FILE_SIZE
        if size > _LARGEST_FILE:
            raise self._error("keep takes at most 1GiB", args[1])
        path = self._controller.path(args[0])
        if not os.path.isdir(path.parent):
            message = f"the folder {path.parent} does not exist here"
            self._controller.warn(message, args[0], "create it, or nothing is kept")
        self._settings.file = StateFile(path, size)

    def _size(self, token: Token) -> int:
        size = parse_size(token.text)
        if size is None:
            raise self._error(f"not a size: {token.text!r}", token, "write it as 64MiB")
        return size

    def _positive_ttl(self, ttl: int, token: Token) -> int:
        if ttl <= 0:
            raise self._error(f"cache TTL can not be zero or negative: {ttl}", token)
        return min(ttl, _MAX_TTL)

    def _not_negative(self, token: Token, what: str) -> float:
        value = self._controller.duration(token)
        if value < 0:
            raise self._error(f"invalid negative {what} for serve_stale", token)
        return value

    def _error(
        self, message: str, token: Token | None = None, hint: str | None = None
    ) -> CorefileError:
        return self._controller.error(message, token, hint)
