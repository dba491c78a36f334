"""`corepy fmt`: rewrite Corefiles in canonical form."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.corefile import CorefileError, Diagnostic, format_text, is_manifest
from corepy.corefile.files import read_corefile
from corepy.corefile.lexer import decode
from corepy.flags import Parser
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

STDIN = "-"

_DESCRIPTION = """\
Write Corefiles in canonical form: indented by braces, one space between words, at most one blank
line in a row. Comments and the meaning of a file are kept. Files are changed in place, and the
names of the changed ones are printed. A file that cannot be parsed is not changed."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit code 1 for an error or (-check) a difference, else 0."""
    flags = parser().read(arguments)
    results = [_one(name, check=flags.check) for name in flags.files or ["Corefile"]]
    return EXIT_OK if all(results) else EXIT_FAILURE


def parser() -> Parser:
    """Return the parser for the arguments of `corepy fmt`."""
    parser = Parser("corepy fmt", "corepy fmt [-check] [FILE]...", _DESCRIPTION)
    parser.flag(
        "check",
        action="store_true",
        help="change no file; print the differences, and exit with 1 if there are any",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help='a Corefile or an imported file; "-" reads standard input and writes standard output'
        ' (default "Corefile")',
    )
    return parser


def _one(name: str, *, check: bool) -> bool:
    """Format or check one file; return whether that succeeded."""
    shown = "stdin" if name == STDIN else name
    try:
        before = sys.stdin.buffer.read() if name == STDIN else read_corefile(name)
        _refuse_manifest(before, shown)
        after = format_text(before, shown)
        changes = after.encode() != before
        if changes and not check and name != STDIN:
            _replace(name, after.encode())
    except CorefileError as error:
        sys.stderr.write(f"{error}\n")
        return False
    except OSError as error:
        sys.stderr.write(f"corepy fmt: {error.filename or shown}: {error.strerror}\n")
        return False
    if check:
        return _compare(decode(before), after, shown)
    if name == STDIN:
        sys.stdout.write(after)
    elif changes:
        sys.stdout.write(f"{name}\n")
    return True


def _refuse_manifest(content: bytes, name: str) -> None:
    """Raise `CorefileError` for a Kubernetes manifest: formatting would remove its indentation."""
    if is_manifest(decode(content)):
        hint = "it is not changed; format a Corefile on its own, without the manifest around it"
        message = f"{name} is a Kubernetes manifest, not a Corefile"
        raise CorefileError(Diagnostic(message, None, hint))


def _compare(before: str, after: str, name: str) -> bool:
    """Print the difference that formatting makes; return whether it is empty."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for line in difflib.unified_diff(old, new, name, f"{name} (formatted)"):
        sys.stdout.write(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return before == after


def _replace(name: str, content: bytes) -> None:
    """Replace a file atomically, with its mode and owner; raises OSError."""
    path = Path(os.path.realpath(name))
    status = path.stat()
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(descriptor, status.st_mode & 0o7777)
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, status.st_uid, status.st_gid)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
