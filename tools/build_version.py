"""Determines the version of the distribution from the tags of git: `v1.2.3` is version 1.2.3.

Between two tags it is a development version of the next patch release or candidate, which pip
regards as older than that release: 5 commits after `v1.2.3` it is 1.2.4.dev5, and 5 commits after
`v1.2.3rc1` 1.2.3rc2.dev5. Before the first tag it is 0.1.0.dev and the number of commits.
Uncommitted changes count as one commit.

The environment variable COREPY_VERSION gives the version where git's data are absent, as in the
container image. An sdist contains it in PKG-INFO, an archive made by `git archive` in
tools/version.txt.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
FIRST: Final = "0.1.0"
"""The version of the first release."""

FILE: Final = "tools/version.txt"
"""In a clone a placeholder, which `git archive` replaces by the output of `git describe`."""

_PATTERN: Final = "v[0-9]*"
_DESCRIBED: Final = re.compile(
    r"v(\d+\.\d+\.)(\d+)(?:(a|b|rc)(\d+))?(?:-(\d+)-g[0-9a-f]+)?(-dirty)?"
)
_GIVEN: Final = re.compile(r"v?(\d\S*)")


def version(root: Path = ROOT) -> str:
    """Return the version of the tree `root`; raises ValueError for a tag that is not a version."""
    given = os.environ.get("COREPY_VERSION", "")
    if given:
        return _GIVEN.sub(r"\1", given)
    if (root / ".git").exists():  # or git would find a repository that contains the tree
        return _of_clone(root)
    return _of_sdist(root / "PKG-INFO") or _of_archive(root / FILE) or f"{FIRST}.dev0"


def of_description(text: str) -> str:
    """Return the version for the output of `git describe`; raises ValueError for another tag."""
    found = _DESCRIBED.fullmatch(text)
    if found is None:
        raise ValueError(f"the tag in {text!r} is not a version such as v1.2.3 or v1.2.3rc1")
    series, patch, stage, number, commits, dirty = found.groups()
    since = int(commits or 0) + bool(dirty)
    if not since:
        return f"{series}{patch}{stage or ''}{number or ''}"
    if stage:
        return f"{series}{patch}{stage}{int(number) + 1}.dev{since}"
    return f"{series}{int(patch) + 1}.dev{since}"


def _of_clone(root: Path) -> str:
    described = _git(root, "describe", "--tags", f"--match={_PATTERN}", "--dirty")
    if described:
        return of_description(described)
    commits = _git(root, "rev-list", "--count", "HEAD") or "0"
    changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return f"{FIRST}.dev{int(commits) + changed}"


def _git(root: Path, *words: str) -> str:
    # Root may install from another user's clone; the build runs that clone's code in any case.
    try:
        done = subprocess.run(  # noqa: S603  # constant commands
            ("git", "-c", "safe.directory=*", *words),  # noqa: S607  # git of the PATH
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _of_sdist(file: Path) -> str:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _of_archive(file: Path) -> str:
    text = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    return of_description(text) if text.startswith("v") else ""


if __name__ == "__main__":
    sys.stdout.write(version() + "\n")
