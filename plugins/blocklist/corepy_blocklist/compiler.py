"""The process that makes a table, so that no query waits while the server reads large lists.

    python -P -m corepy_blocklist.compiler NICE OUTPUT [PREVIOUS]

NICE is added to the priority value (nice(2)). The other arguments are inherited descriptors; the
files are a JSON value at the standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

from corepy_blocklist.compiling import compile_files
from corepy_blocklist.rule import SourceFile, SourceKind
from corepy_blocklist.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


def job(files: Sequence[SourceFile], plain_scope: int) -> bytes:
    """Return the standard input of the process."""
    return json.dumps(
        [plain_scope, [[int(it.kind), it.path, it.zone, it.name] for it in files]]
    ).encode()


def write_table(job_text: bytes, output: int, previous: int | None) -> None:
    """Write the table of a job to the descriptor `output`; raises TooLargeError and OSError."""
    plain_scope, files = json.loads(job_text)
    sources = [SourceFile(SourceKind(kind), *texts) for kind, *texts in files]
    before = None if previous is None else Table(previous)
    with open(output, "wb", closefd=False) as file:
        compile_files(sources, plain_scope, file, before)


def main(arguments: Sequence[str]) -> int:
    """Write the table, and return the exit code; a problem is printed."""
    nice, output, *others = map(int, arguments)
    previous = others[0] if others else None
    with contextlib.suppress(OSError):
        os.nice(nice)
    try:
        write_table(sys.stdin.buffer.read(), output, previous)
    except (OSError, ValueError) as error:
        sys.stderr.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
