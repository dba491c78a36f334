"""Parse the *sign* directives of a server block (CoreDNS: plugin/sign/setup.go)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.zone import origin_from_text
from corepy.zone.key_files import SUFFIXES, base_of, pair_of, read_watched_key, warn_about_key
from corepy_sign.signed_file import SignedFile
from corepy_sign.zone_signer import ZoneSigner

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token
    from corepy.zone.signing_keys import SigningKey

_HINT: Final = "sign DBFILE [ZONES...], such as sign db.example.org example.org"
_KEY: Final = "key file KEY... or key directory DIR..."
_UNREADABLE: Final = "\ufffd"
"""Stands for bytes that are not UTF-8."""


class Written:
    """The files that the directives of a Corefile write, with their positions."""

    def __init__(self) -> None:
        self.tokens: dict[Path, Token] = {}


def setup(controller: Controller) -> None:
    """Register one object that signs the zones of all directives of the block."""
    files: list[SignedFile] = []
    for _ in controller.occurrences():
        files += _directive(controller)
    controller.register(ZoneSigner(files))


def _directive(controller: Controller) -> list[SignedFile]:
    token = controller.next_argument(_HINT)
    if token.text == "{":
        raise controller.arg_error(token, _HINT)
    if _UNREADABLE in token.text or not token.text.isprintable():
        raise controller.error(f"dbfile {token.text!r} contains invalid characters", token)
    zones = controller.zones_from(controller.remaining_tokens())
    origins = dict.fromkeys(origin_from_text(zone) for zone in zones)
    files = [SignedFile(controller.path(token), origin) for origin in origins]
    controller.options(
        {
            "key": lambda: _key(controller, files),
            "directory": lambda: _directory(controller, files),
        }
    )
    for file in files:
        _check(controller, file, token)
    if files:  # all have the same zone file and folder
        _warn_of_missing(controller, files[0], token)
    return files


def _warn_of_missing(controller: Controller, file: SignedFile, token: Token) -> None:
    """Warn if the zone file or the folder of the signed files cannot be opened now."""
    for path, hint in (
        (file.source, "the zone is signed when it exists"),
        (file.folder, "create the folder of the signed files, or set directory"),
    ):
        try:
            path.stat()
        except OSError as error:
            reason = error.strerror or error
            controller.warn(f"cannot open {path}: {reason}", token, hint)


def _check(controller: Controller, file: SignedFile, token: Token) -> None:
    """Refuse a zone without keys, and to write a zone file or what another directive writes."""
    name = to_text(file.origin)
    if not file.keys:
        hint = f"in the block of sign: {_KEY}"
        raise controller.error(f"zone {name} has no key to sign it with", token, hint)
    written = controller.shared(Written).tokens
    path = file.path.absolute()
    if path == file.source.absolute():
        hint = "set another directory, or another name of the zone file"
        raise controller.error(f"{path} is both the zone file and the signed file", token, hint)
    if path in written:
        message = f"{path} is written by another directive, at {written[path].location}"
        raise controller.error(message, token, "sign each zone once, or set another directory")
    written[path] = token


def _directory(controller: Controller, files: list[SignedFile]) -> None:
    folder = controller.path(controller.argument("can only be one argument: directory DIR"))
    for file in files:
        file.folder = folder


def _key(controller: Controller, files: list[SignedFile]) -> None:
    kind = controller.next_argument(_KEY)
    readers = {"file": _key_file, "directory": _key_directory}
    reader = readers.get(kind.text)
    if reader is None:
        raise controller.error(f"unknown source of keys {kind.text!r}", kind, _KEY)
    for token in controller.arguments(1, hint=_KEY):
        for file, key in reader(controller, token, files):
            if key.rdata not in [it.rdata for it in file.keys]:
                file.keys.append(key)


def _key_file(
    controller: Controller, token: Token, files: list[SignedFile]
) -> list[tuple[SignedFile, SigningKey]]:
    """Return the key in a pair of files for all zones: it may have been created for another one."""
    base = base_of(controller.path(token))
    key = read_watched_key(controller, token, base)
    if not key.is_ksk:
        message = f"DNSKEY in {pair_of(base)[0]} is not a CSK/KSK"
        raise controller.error(message, token, "create it with dnssec-keygen -f KSK")
    warn_about_key(controller, token, base, key)
    return [(file, key) for file in files]


def _key_directory(
    controller: Controller, token: Token, files: list[SignedFile]
) -> list[tuple[SignedFile, SigningKey]]:
    """Return the keys of each zone in a folder."""
    return [(file, key) for file in files for key in _keys_in(controller, token, file)]


def _keys_in(controller: Controller, token: Token, file: SignedFile) -> list[SigningKey]:
    """Return the keys of a zone in a folder, except those without the SEP bit."""
    folder, name = controller.path(token), to_text(file.origin)
    try:
        found = sorted(it for it in folder.iterdir() if _is_key_of(it.name, name))
    except NotADirectoryError:
        raise controller.error(f"{folder} is not a directory", token) from None
    except OSError as error:
        message = f"cannot read {folder}: {error.strerror or error}"
        raise controller.error(message, token) from None
    bases = [base_of(path) for path in found]
    read = [(base, read_watched_key(controller, token, base)) for base in bases]
    keys = [(base, key) for base, key in read if key.is_ksk]
    if not keys:
        raise controller.error(f"{folder} has no CSK/KSK for zone {name}", token, f"K{name}+ALG+ID")
    for base, key in keys:
        warn_about_key(controller, token, base, key)
    return [key for _, key in keys]


def _is_key_of(file_name: str, zone: str) -> bool:
    return file_name.lower().startswith(f"k{zone}+") and file_name.endswith(SUFFIXES[0])
