"""`corepy new-plugin NAME [FOLDER]`: write a working plugin as a starting point."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.flags import Parser
from corepy.loading.registry import find
from corepy.release import DISTRIBUTION
from corepy.scaffold.skeleton import write
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST: Final = 40

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RULE: Final = f"use lower-case letters, digits and _ between them, at most {LONGEST} characters"
_RESERVED: Final = {
    "import": "it is a keyword of the Corefile",
    "dns": f"{DISTRIBUTION} is the distribution of corepy",
}

_NEXT: Final = """\
Created {folder}: a plugin with options, metrics and tests. Next steps:

    cd {folder}
    python -m pip install --upgrade pip
    python -m pip install --editable . --group dev
    python -m pytest
    corepy -conf Corefile -p 1053

and from another terminal:

    dig @127.0.0.1 -p 1053 {name}.example.org TXT +short

The code is in corepy_{name}/: handler.py answers, setup.py reads the Corefile.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    flags = parser().read(arguments)
    name: str = flags.name
    folder = Path(flags.folder or f"corepy-{name}")
    problem = _problem(name, folder)
    if problem is None:
        try:
            write(name, folder)
        except OSError as error:
            problem = f"cannot write {error.filename}: {error.strerror}"
    if problem is not None:
        sys.stderr.write(f"corepy new-plugin: {problem}\n")
        return EXIT_FAILURE
    sys.stdout.write(_NEXT.format(folder=folder, name=name))
    return EXIT_OK


def parser() -> Parser:
    """Return the parser for the arguments of `corepy new-plugin`."""
    parser = Parser(
        "corepy new-plugin",
        "corepy new-plugin NAME [FOLDER]",
        "Create a folder with a working plugin and its tests, as a starting point.",
    )
    parser.add_argument("name", metavar="NAME", help="the directive, such as hello")
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="the folder to create (default corepy-NAME)"
    )
    return parser


def _problem(name: str, folder: Path) -> str | None:
    """Return the reason why this plugin cannot be written, or None."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        return f"{name!r} is not a valid plugin name: {_RULE}"
    if name in _RESERVED:
        return f"{name!r} is not a valid plugin name: {_RESERVED[name]}"
    taken = find().get(name)
    if taken is not None:
        return f"{name!r} is taken: the distribution {taken.distribution} provides this directive"
    package = f"corepy_{name}"
    if importlib.util.find_spec(package) is not None:
        return f"{name!r} is taken: a package {package} is installed"
    if folder.exists() or folder.is_symlink():
        return f"{folder} exists already; give another folder"
    return None
