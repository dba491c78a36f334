"""The weight file (CoreDNS: plugin/loadbalance/weighted.go)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

from corepy.dns.names import InvalidName, from_text, lower
from corepy.plugin import LifecycleContext, StartupError, hookimpl, parse_unsigned, plugin_logger
from corepy.plugin.reading import read_file

DEFAULT_WEIGHT: Final = 1
MOST: Final = 255

_log = plugin_logger("loadbalance")


class WeightError(ValueError):
    """A weight file says something that cannot be understood; the message says what."""


def parse(text: str) -> dict[bytes, dict[bytes, int]]:
    """Return the weights by wire name in lower case and by address; raises WeightError."""
    domains: dict[bytes, dict[bytes, int]] = {}
    domain: dict[bytes, int] | None = None
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2:
            raise WeightError(f"could not parse weight line: {line.strip()!r}")
        if len(words) == 1:
            domain = domains.setdefault(_name(words[0]), {})
            continue
        address, weight = _address(words[0]), words[1]
        if address is None:
            raise WeightError(f"wrong IP address: {words[0]!r}")
        number = parse_unsigned(weight, MOST)
        if not number:
            raise WeightError(f"wrong weight value: {weight!r}")
        if domain is None:
            raise WeightError(f"missing domain name before {line.strip()!r}")
        domain.setdefault(address, number)
    return domains


def _name(text: str) -> bytes:
    if _address(text) is not None:
        raise WeightError(f"wrong domain name: {text!r} (maybe a missing weight value?)")
    try:
        return lower(from_text(text))
    except InvalidName as error:
        raise WeightError(str(error)) from None


def _address(text: str) -> bytes | None:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


class WeightFile:
    """The weights of a file, read at the start and again whenever it has changed."""

    def __init__(self, path: Path, interval: float) -> None:
        """Look at `path` every `interval` seconds; 0 for never again."""
        self.path = path
        self.interval = interval
        self._domains: dict[bytes, dict[bytes, int]] = {}
        self._content: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None

    def weight(self, owner: bytes, address: bytes) -> int:
        """Return the weight of an address of a name in lower case."""
        return self._domains.get(owner, {}).get(address, DEFAULT_WEIGHT)

    def read(self) -> None:
        """Read the file if it has changed; raises OSError and WeightError, and keeps the weights
        that were known then.
        """
        content, _ = read_file(self.path)
        if content != self._content:
            self._content = content
            self._domains = parse(content.decode("utf-8-sig", "replace"))
            _log.info("read weight file %s", self.path)

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Read the file; one that is not there yet may come."""
        try:
            self.read()
        except OSError as error:
            message = f"cannot read weight file {self.path}: {error.strerror}"
            if not self.interval:
                raise StartupError(message) from None
            _log.warning("%s; trying again every %gs", message, self.interval)
        except WeightError as error:
            raise StartupError(f"weight file {self.path}: {error}") from None
        self._wait()

    @hookimpl
    def rehearse(self, context: LifecycleContext) -> None:
        """Read the file, for one question."""
        self.before_listen(context)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Look at the file no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self.interval:
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._look)

    def _look(self) -> None:
        try:
            self.read()
        except OSError as error:
            _log.error("cannot read weight file %s: %s", self.path, error.strerror)
        except WeightError as error:
            _log.error("weight file %s: %s", self.path, error)
        self._wait()
