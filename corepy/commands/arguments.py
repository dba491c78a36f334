"""Arguments as `corepy` and all of its commands take them, which is as Go's flag package does.

One dash or two, `-flag value` or `-flag=value`, and for switches `-flag`, `-flag=true` or
`-flag=false`. What is wrong is said in one line.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from corepy.server.options import EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Parser(argparse.ArgumentParser):
    """An argument parser in Go's spelling; add flags with `flag`, and arguments as usual."""

    def __init__(self, prog: str, usage: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._flags: set[str] = set()
        self._switches: set[str] = set()

    def flag(self, *names: str, **settings: Any) -> None:
        """Add a flag whose every name may have one dash or two; `settings` are argparse's."""
        spellings = [f"{dashes}{name}" for name in names for dashes in ("-", "--")]
        self._flags.update(spellings)
        if settings.get("action") == "store_true":
            self._switches.update(spellings)
        settings.setdefault("dest", names[-1] if names[0] == "h" else names[0])
        self.add_argument(*spellings, **settings)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return what `arguments` say; ends the process where they are wrong, or ask for help."""
        return self.parse_args(self._in_plain_form(arguments))

    def _in_plain_form(self, arguments: Sequence[str]) -> list[str]:
        """Put `-quiet=true` as `-quiet`, leave `-quiet=false` out, and refuse flags that there are
        not: argparse would take `-plugin` for `-p lugin`.
        """
        plain = []
        for argument in arguments:
            flag, equals, value = argument.partition("=")
            if len(flag) > 1 and flag.startswith("-") and flag not in self._flags:
                self.error(f"unrecognized arguments: {argument}")
            if not equals or flag not in self._switches:
                plain.append(argument)
            elif value in _TRUE:
                plain.append(flag)
            elif value not in _FALSE:
                self.error(f"{value!r} is neither true nor false, in {argument}")
        return plain

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, as every other error of the command."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} -help\n")
