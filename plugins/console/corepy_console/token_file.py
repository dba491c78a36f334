"""The token that clients of the page need."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, Final

from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from pathlib import Path

SHORTEST: Final = 16
"""Characters of a token: 96 bits in base64."""

LONGEST: Final = 512


def read_token(path: Path) -> tuple[str, bool]:
    """Return the token in a file, and whether all users of the machine can read the file.

    White space around it is ignored. Raises OSError, and ValueError with the reason for a token
    that is too short to be safe or cannot be sent.
    """
    content, _ = read_file(path, 4096)
    token = content.strip().decode("latin-1")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("it has characters that a header cannot have")
    if not SHORTEST <= len(token) <= LONGEST:
        raise ValueError(f"it has {len(token)} characters, not {SHORTEST} to {LONGEST}")
    return token, bool(os.stat(path).st_mode & stat.S_IROTH)


def digest_of(token: str) -> bytes:
    """Return the digest of a token, which is kept and compared instead of it."""
    return hashlib.sha256(token.encode("latin-1", "replace")).digest()


def is_token(given: str, digest: bytes) -> bool:
    """Return whether `given` is the token with this digest; takes the same time for any other."""
    return hmac.compare_digest(digest_of(given), digest)
