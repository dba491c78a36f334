"""The weight file (CoreDNS: plugin/loadbalance/weighted.go)."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text, lower
from corepy.plugin import FileData, parse_unsigned, plugin_logger

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_WEIGHT: Final = 1
MOST: Final = 255

_log = plugin_logger("loadbalance")


class WeightError(ValueError):
    """A weight file is malformed; the message describes the error."""


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


Weights = dict[bytes, dict[bytes, int]]


class WeightFile(FileData[Weights]):
    """The weights of a file, loaded at the start and after each change."""

    def __init__(self, path: Path, interval: float) -> None:
        """Check `path` every `interval` seconds; 0 means only at the start."""
        super().__init__(
            path,
            lambda content: parse(content.decode("utf-8-sig", "replace")),
            {},
            interval=interval,
            required=not interval,
            what="weight file",
            log=_log,
        )

    def weight(self, owner: bytes, address: bytes) -> int:
        """Return the weight of an address; `owner` is in lower case."""
        return self.value.get(owner, {}).get(address, DEFAULT_WEIGHT)
