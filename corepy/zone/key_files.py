"""Reads the key files of BIND and of Knot DNS.

BIND's dnssec-keygen writes a pair: NAME.key has a DNSKEY record, NAME.private the private key. Knot
DNS stores private keys as PKCS #8 in PEM files, and `keymgr ZONE dnskey KEY` prints the record.
NAME.private may be such a PEM file, also with the name NAME.pem.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import stat
import time
from calendar import timegm
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import CLASS_IN, type_name
from corepy.dns.names import to_text
from corepy.dns.presentation import Record, RecordError, read_record
from corepy.plugin.reading import read_file
from corepy.zone.pem_keys import read_pem
from corepy.zone.signing_keys import (
    EC_ALGORITHMS,
    ED25519,
    RSA_ALGORITHMS,
    SHA1_ALGORITHMS,
    BadKey,
    elliptic_key,
    rsa_key,
    signing_key,
    unsupported,
)

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.plugin import Controller, Token
    from corepy.zone.signing_keys import SigningKey

LARGEST: Final = 64 * 1024
"""Bytes of the largest key file."""

SUFFIXES: Final = (".key", ".private", ".pem")

_TYPE_DNSKEY: Final = 48
_RSA_FIELDS: Final = (
    "Modulus", "PublicExponent", "PrivateExponent", "Prime1", "Prime2", "Exponent1", "Exponent2",
    "Coefficient",
)  # fmt: skip
_KEY_FIELD: Final = "PrivateKey"
_FORMAT: Final = re.compile(r"v1\.[0-9]+", re.ASCII)
_ALGORITHM: Final = re.compile(r"([0-9]{1,3})(?:\s.*)?", re.ASCII)
_PEM: Final = b"-----BEGIN "
_ACTIVATE: Final = "Activate"
_TIMES: Final = {
    "Delete": "was to be deleted at",
    "Inactive": "is inactive since",
    _ACTIVATE: "is not active before",
}
_TIME_FORMAT: Final = "%Y%m%d%H%M%S"


class KeyFileError(ValueError):
    """A key file is missing or invalid; the message begins with its path."""


def base_of(path: Path) -> Path:
    """Return the path of a pair of files without suffix, for that of one of the two, or of both."""
    return path.with_name(path.name.removesuffix(path.suffix)) if path.suffix in SUFFIXES else path


def pair_of(base: Path) -> tuple[Path, Path]:
    """Return the paths of the public and of the private key; raises KeyFileError."""
    if not base.name:
        raise KeyFileError(f"{base}: this is a folder, not a key file")
    public, private, pem = (base.with_name(base.name + suffix) for suffix in SUFFIXES)
    # os.path: methods of Path raise OSError, for example for a long name
    is_pem = os.path.exists(pem) and not os.path.exists(private)
    return public, pem if is_pem else private


def read_key(base: Path) -> SigningKey:
    """Return the key in the files whose names begin with `base`; raises KeyFileError."""
    public, private = pair_of(base)
    at = public
    try:
        record = read_public(_content(public))
        at = private
        key = read_private(_content(private), record.rdata[3])
        return signing_key(record.owner, record.rdata, key)
    except OSError as error:
        raise KeyFileError(f"cannot read {at}: {error.strerror or error}") from None
    except ValueError as error:  # also a NUL byte in the path
        raise KeyFileError(f"{at}: {error}") from None


def read_watched_key(controller: Controller, token: Token, base: Path) -> SigningKey:
    """Return the key that an option of a Corefile names, and watch its files.

    Raises `CorefileError`.
    """
    try:
        for path in pair_of(base):
            controller.watch_file(path.absolute())
        return read_key(base)
    except KeyFileError as error:
        raise controller.error(str(error), token) from None


def warn_about_key(controller: Controller, token: Token, base: Path, key: SigningKey) -> None:
    """Add warnings about a key that an option of a Corefile names."""
    name = f"key {to_text(key.owner)} (keyid: {key.tag})"
    if key.algorithm in SHA1_ALGORITHMS:
        hint = "many validators ignore such signatures (RFC 9905): use ECDSAP256SHA256"
        controller.warn(f"{name} signs with SHA-1", token, hint)
    _, private = pair_of(base)
    with contextlib.suppress(OSError):
        if os.stat(private).st_mode & stat.S_IROTH:
            message = f"all users of the machine can read {private}"
            controller.warn(message, token, "chmod o-r, or in Kubernetes defaultMode: 0440")
        # time of day: the file has times of the calendar
        problem = timing_problem(_content(private), time.time())
        if problem:
            hint = "it signs nonetheless; remove it from the Corefile, or see dnssec-settime"
            controller.warn(f"{name} {problem}", token, hint)


def timing_problem(content: bytes, now: float) -> str:
    """Return why a key must not sign now by the times in its file; "" if there is no reason.

    `content` is that of BIND's file with the private key, `now` is in seconds since 1970.
    """
    fields = _fields(content)
    for name, problem in _TIMES.items():
        at = _seconds(fields.get(name, ""))
        if at is not None and (now < at) == (name == _ACTIVATE):
            return f"{problem} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at))}"
    return ""


def _seconds(text: str) -> int | None:
    """Return the time of a field, in seconds since 1970, or None."""
    with contextlib.suppress(ValueError):
        return timegm(time.strptime(text, _TIME_FORMAT))
    return None


def _content(path: Path) -> bytes:
    return read_file(path, LARGEST)[0]


def read_public(content: bytes) -> Record:
    """Return the DNSKEY record in a file, which is its first record; raises BadKey."""
    try:
        record = read_record(content.decode("utf-8", "replace"), 0)
    except RecordError as error:
        raise BadKey(f"not a DNSKEY record: {error}") from None
    if record.rtype != _TYPE_DNSKEY or record.rclass != CLASS_IN:
        raise BadKey(f"the record is {type_name(record.rtype)}, not DNSKEY")
    return record


def read_private(content: bytes, algorithm: int) -> object:
    """Return the private key in a file, an object of `cryptography`; raises BadKey.

    `algorithm` is that of the public key, which the file of BIND must have, too.
    """
    if content.lstrip().startswith(_PEM):
        return read_pem(content, algorithm)
    fields = _fields(content)
    if not _FORMAT.fullmatch(fields.get("Private-key-format", "")):
        raise BadKey("neither a private key in BIND's format, version 1, nor a PEM file")
    found = _ALGORITHM.fullmatch(fields.get("Algorithm", ""))
    if found is None or int(found[1]) != algorithm:
        raise BadKey("the private key is of another algorithm than the DNSKEY record")
    if algorithm in RSA_ALGORITHMS:
        numbers = {name: int.from_bytes(_secret(fields, name), "big") for name in _RSA_FIELDS}
        return rsa_key(numbers)
    if algorithm in EC_ALGORITHMS or algorithm == ED25519:
        return elliptic_key(algorithm, _secret(fields, _KEY_FIELD))
    raise unsupported(algorithm)


def _fields(content: bytes) -> dict[str, str]:
    """Return the values of the lines "NAME: VALUE"."""
    lines = content.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _secret(fields: dict[str, str], name: str) -> bytes:
    """Return the bytes of a field in base64; raises BadKey."""
    try:
        secret = base64.b64decode(fields.get(name, "").encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        secret = b""
    if not secret:
        raise BadKey(f"the field {name} is missing or not base64")
    return secret
