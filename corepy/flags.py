"""Command-line parser of `corepy` and its commands, compatible with Go's flag package.

Flags take one dash or two, as `-flag value` or `-flag=value`; boolean flags also as `-flag`,
`-flag=true` or `-flag=false`. Errors are reported in one line.

It imports the rest of the project only to report an error, because `corepy -version` and the
supervisor start with this module. Plugins import it as `corepy.plugin.arguments`.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")

EXIT_USAGE: Final = 2
"""The exit code for wrong arguments."""

_HELP = ("-h", "--h", "-help", "--help")


class Parser(argparse.ArgumentParser):
    """An argument parser with Go's flag syntax; add flags with `flag`, arguments as in argparse.

    A parser with subcommands (`command`), such as `corepy cache`, has no flags or arguments.
    """

    def __init__(
        self, prog: str, usage: str | None, description: str, epilog: str | None = None
    ) -> None:
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
        self._commands: dict[str, Parser] = {}
        self.flag("h", "help", action="help", help="show this text and quit")

    def command(self, name: str, description: str) -> Parser:
        """Add the subcommand `name` and return the parser for its arguments."""
        parser = Parser(f"{self.prog} {name}", None, description)
        self._commands[name] = parser
        self.usage = f"{self.prog} {{{','.join(self._commands)}}} ..."
        listed = "".join(f"  {it:<10}  {each.description}\n" for it, each in self._commands.items())
        self.epilog = f"commands:\n{listed}\n{self.prog} COMMAND -help lists its arguments."
        return parser

    def flag(self, *names: str, **settings: Any) -> None:
        """Add a flag whose names are accepted with one dash or two.

        `settings` are those of argparse; `group` is the argparse group to add the flag to.
        """
        group: argparse._ActionsContainer = settings.pop("group", self)
        spellings = [f"{dashes}{name}" for name in names for dashes in ("-", "--")]
        self._flags.update(spellings)
        if settings.get("action") == "store_true":
            self._switches.update(spellings)
        settings.setdefault("dest", names[-1] if names[0] == "h" else names[0])
        group.add_argument(*spellings, **settings)

    @property
    def flags(self) -> frozenset[str]:
        """All flags in all their spellings."""
        return frozenset(self._flags)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed `arguments`; exit if they are wrong or request the help."""
        if not self._commands:
            found, extra = self.parse_known_args(self._in_plain_form(arguments))
            if extra:
                self.error(f"unrecognized arguments: {' '.join(extra)}{self._conf_hint(extra)}")
            return found
        name, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
        if name in _HELP:
            self.print_help()
            self.exit()
        if name not in self._commands:
            near = _suggest(name, self._commands)
            known = (
                f"did you mean {near!r}?"
                if near
                else f"expected one of {', '.join(self._commands)}"
            )
            self.error(
                f"unknown command {name!r}: {known}" if name else f"missing command: {known}"
            )
        found = self._commands[name].read(rest)
        found.command = name
        return found

    def _conf_hint(self, extra: Sequence[str]) -> str:
        """Return a hint at -conf if the only extra argument is an existing file."""
        is_file = len(extra) == 1 and "-conf" in self._flags and os.path.isfile(extra[0])
        return f", did you mean -conf {extra[0]}?" if is_file else ""

    def _in_plain_form(self, arguments: Sequence[str]) -> list[str]:
        """Return `arguments` with `-quiet=true` as `-quiet` and without `-quiet=false`.

        Unknown flags are refused here, because argparse would read `-plugin` as `-p lugin`.
        """
        plain = []
        for argument in arguments:
            flag, equals, value = argument.partition("=")
            if len(flag) > 1 and flag.startswith("-") and flag not in self._flags:
                near = _suggest(flag.lstrip("-"), {known.lstrip("-") for known in self._flags})
                self.error(
                    f"unrecognized arguments: {argument}"
                    + (f", did you mean -{near}?" if near else "")
                )
            if not equals or flag not in self._switches:
                plain.append(argument)
            elif (is_set := parse_boolean(value)) is None:
                self.error(f"{value!r} is neither true nor false, in {argument}")
            elif is_set:
                plain.append(flag)
        return plain

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line, like every other error of the command, and exit."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} -help\n")


def parse_boolean(text: str) -> bool | None:
    """Return `text` as a truth value, or None if it is invalid (Go: strconv.ParseBool)."""
    return True if text in _TRUE else False if text in _FALSE else None


def _suggest(word: str, known: Collection[str]) -> str | None:
    from corepy.corefile import suggest

    return suggest(word, known)
