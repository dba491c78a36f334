"""The results of validation: `Security` for data that is not bogus, the exception `Bogus` else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.edns import EDE_DNSSEC_BOGUS, EDE_DNSSEC_INDETERMINATE
from corepy.dns.names import to_text

if TYPE_CHECKING:
    from collections.abc import Iterable

EDE_UNSUPPORTED_NSEC3_ITERATIONS: Final = 27
"""Info code of RFC 9276 section 3.2."""

_LONGEST_NAME: Final = 100


class Security(NamedTuple):
    """The verdict about data that is secure or insecure (RFC 4035 section 4.3)."""

    is_secure: bool
    ede: int = -1
    """The info code that explains an insecure verdict; -1: none."""
    text: str = ""


SECURE: Final = Security(True)
INSECURE: Final = Security(False)


class Bogus(Exception):
    """Data has no valid chain of trust although it must; `ede` and `text` are for RFC 8914."""

    def __init__(self, text: str, ede: int = EDE_DNSSEC_BOGUS) -> None:
        super().__init__(text)
        self.text = text
        self.ede = ede
        self.zone: bytes | None = None
        """The zone whose keys cannot be trusted, if that is the reason."""

    def copy(self) -> Bogus:
        """Return the same reason without a traceback, which would keep messages in memory."""
        made = Bogus(self.text, self.ede)
        made.zone = self.zone
        return made


class Indeterminate(Bogus):
    """The data that validation needs cannot be obtained now; never cached."""

    def __init__(self, text: str, ede: int = EDE_DNSSEC_INDETERMINATE) -> None:
        super().__init__(text, ede)


class Exhausted(Indeterminate):
    """The queries of the client for whom data is obtained are used up."""


def weakest(verdicts: Iterable[Security]) -> Security:
    """Return the first insecure verdict, SECURE if there is none."""
    return next((it for it in verdicts if not it.is_secure), SECURE)


def shown(name: bytes) -> str:
    """Return a name in presentation form for a message, shortened."""
    text = to_text(name)
    return text if len(text) <= _LONGEST_NAME else f"...{text[-_LONGEST_NAME:]}"
