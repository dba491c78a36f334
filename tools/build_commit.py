"""Determines the commit that a distribution is built from.

git reports it in a clone. The environment variable COREPY_COMMIT names it where git's data are
absent, as in the container image. An sdist and an archive made by `git archive` contain it in
tools/commit.txt.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

DIGITS: Final = 12
"""The digits of an abbreviated commit; git's own choice depends on the repository's size."""

FILE: Final = "tools/commit.txt"
PLACEHOLDER: Final = "$Format"
"""The beginning of FILE in a clone; `git archive` replaces it by all digits of the commit."""

_WHOLE: Final = re.compile("[0-9a-f]{40,}")


def commit(root: Path) -> str:
    """Return the abbreviated commit of the tree `root`, or "" if it is unknown."""
    return os.environ.get("COREPY_COMMIT", "") or _of_clone(root) or _of_file(root / FILE)


def _of_clone(root: Path) -> str:
    if not (root / ".git").exists():  # or git would find a repository that contains the tree
        return ""
    # Root may install from another user's clone; the build runs that clone's code in any case.
    git = ("git", "-c", "safe.directory=*")
    command = (*git, "describe", "--always", f"--abbrev={DIGITS}", "--dirty", "--exclude=*")
    try:
        done = subprocess.run(  # noqa: S603  # a constant command
            command, cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _of_file(file: Path) -> str:
    text = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    if text.startswith(PLACEHOLDER):
        return ""
    return text[:DIGITS] if _WHOLE.fullmatch(text) else text


if __name__ == "__main__":
    sys.stdout.write(commit(Path(__file__).parent.parent) + "\n")
