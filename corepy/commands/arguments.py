"""Arguments as all of corepy's commands take them: one dash or two, errors in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from corepy.server.options import EXIT_USAGE


class Parser(argparse.ArgumentParser):
    """An argument parser in Go's spelling."""

    def __init__(self, prog: str, usage: str, description: str) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.flag("h", "help", dest="help", action="help", help="show this text and quit")

    def flag(self, *names: str, **settings: Any) -> None:
        """Add a flag whose every name may have one dash or two."""
        settings.setdefault("dest", names[0].replace("-", "_").replace(".", "_"))
        spellings = [f"{dashes}{name}" for name in names for dashes in ("-", "--")]
        self.add_argument(*spellings, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as every other error of the command."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} -help\n")
