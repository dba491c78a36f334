"""Prints the files that the locks of the container image admit, as lines for `sha256sum`.

    python3 tools/locked_files.py PYLOCK > deploy/kubernetes/files.lock

PYLOCK is a lock in the format pylock.toml, which has the files' names; the locks that pip reads
have only their hashes. The names show for which architectures there are wheels. `make lock` runs
it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def files(text: str) -> dict[str, str]:
    """Return the file names of a pylock.toml, sorted, with their SHA-256 hashes."""
    found = {}
    for package in tomllib.loads(text)["packages"]:
        for file in (*package.get("wheels", ()), package.get("sdist")):
            if file is not None:
                found[file["url"].rpartition("/")[2]] = file["hashes"]["sha256"]
    return dict(sorted(found.items()))


def main(path: str) -> None:
    """Print the lines for the lock at `path`."""
    lines = [f"{sha256}  {name}\n" for name, sha256 in files(Path(path).read_text()).items()]
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
