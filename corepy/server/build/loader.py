"""Loads the configuration: reads the Corefile and builds a generation from it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from corepy import corefile
from corepy.corefile.files import read_corefile
from corepy.corefile.lexer import decode
from corepy.loading.orderfile import load_order
from corepy.loading.registry import find
from corepy.plugin.errors import describe
from corepy.server.build.builder import build
from corepy.server.contain.attribution import of_error
from corepy.server.gc_tuning import freeze_modules
from corepy.server.listen.transports import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.loading.registry import FoundPlugin
    from corepy.server.build.generation import Generation
    from corepy.server.options import Options

DEFAULT_FILE = "Corefile"
STDIN = "stdin"

_DEFAULT = ".:{port} {{\n    whoami\n    log\n}}\n"
"""The default for a missing Corefile, or one without a server block (core/dnsserver/register.go:
DefaultInput).
"""


class Loader:
    """Loads the Corefile of the process, at the start and at each reload."""

    def __init__(self, options: Options) -> None:
        """Use the file that `options` name, or "Corefile"."""
        self._options = options
        self._stdin: bytes | None = None
        self._found: dict[str, FoundPlugin] = {}
        self._had_file = False
        self.name = options.conf or DEFAULT_FILE

    def load(self, *, checking: bool = False) -> Generation:
        """Read, parse and build; with `checking` the result is not meant to be started.

        Raises `CorefileError`, or `OSError` for a file that cannot be read.
        """
        try:
            return self._build(self._parse(), checking=checking)
        except corefile.CorefileError:
            if self.manifest() is not None:
                self._refuse_manifest()
            raise

    def load_part(self, part: corefile.Embedded) -> Generation:
        """Check one Corefile of a manifest; raises like `load`."""
        return self._build(corefile.parse(part.text, part.name, schemes=KNOWN), checking=True)

    def manifest(self) -> list[corefile.Embedded] | None:
        """Return the Corefiles of a Kubernetes manifest given instead of a Corefile.

        None if the file is not a manifest. Raises `OSError` for a file that cannot be read.
        """
        if self._is_default or self._options.make_corefile:
            return None
        content = self._standard_input() if self.name == STDIN else read_corefile(self.name)
        text = decode(content)
        return corefile.embedded(self.name, text) if corefile.is_manifest(text) else None

    @property
    def _is_default(self) -> bool:
        """Whether no file was named and ./Corefile has never existed.

        A file that was removed while the server runs is an error at a reload, as with -conf.
        """
        if self._options.conf is not None or self._options.make_corefile is not None:
            return False
        self._had_file = self._had_file or Path(DEFAULT_FILE).exists()
        return not self._had_file

    def _parse(self) -> corefile.Corefile:
        """Read and parse (coremain/run.go: confLoader, defaultLoader)."""
        if self._is_default:
            hint = "name the file with -conf"
            return self._default(f"{DEFAULT_FILE} does not exist", hint, DEFAULT_FILE)
        if self._options.make_corefile is not None:
            made = _made(self._options.make_corefile)
            self.name = made.name
            return corefile.parse_generated(made, schemes=KNOWN)
        if self._options.conf == STDIN:
            return corefile.parse(self._standard_input(), STDIN, schemes=KNOWN)
        return corefile.load(self.name, schemes=KNOWN)

    def _standard_input(self) -> bytes:
        """Return the content of standard input, which is read only once."""
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed", STDIN)
        if self._stdin is None:
            self._stdin = sys.stdin.buffer.read()
        return self._stdin

    def _build(self, parsed: corefile.Corefile, *, checking: bool) -> Generation:
        parsed, first = self._with_default(parsed), not self._found
        order = self._options.plugin_order
        rules = [] if order is None else load_order(order)
        if not parsed.directives <= self._found.keys():
            self._found = find()  # slow: reads the metadata of all installed distributions
        generation = build(
            parsed,
            self._options.port,
            self._found,
            checking=checking,
            on_imported=freeze_modules if first and not checking else None,
            rules=rules,
        )
        if order is not None:
            generation.files.append(Path(os.path.abspath(order)))
        return generation

    def _with_default(self, parsed: corefile.Corefile) -> corefile.Corefile:
        """Return CoreDNS's default, with a warning, for a Corefile without a server block."""
        if not parsed.is_empty:
            return parsed
        hint = "a server block is a zone, '{', directives on lines of their own, and '}'"
        name = f"default of {self.name}"
        default = self._default(f"{self.name} has no server block", hint, name)
        warnings = [*parsed.warnings, *default.warnings]
        return default._replace(files=parsed.files, warnings=warnings)

    def _default(self, reason: str, hint: str, name: str) -> corefile.Corefile:
        """Return CoreDNS's default as the file `name`, with a warning that states the reason."""
        port = self._options.port
        default = corefile.parse(_DEFAULT.format(port=port), name)
        message = (
            f"{reason}, so the default of CoreDNS is used: whoami and log, for all names"
            f" at port {port}"
        )
        warning = corefile.Diagnostic(message, None, hint, "warning")
        return default._replace(warnings=[*default.warnings, warning])

    def _refuse_manifest(self) -> NoReturn:
        hint = (
            "corepy -check checks the Corefile in it, and this command prints it:"
            " kubectl get configmap NAME -o jsonpath='{.data.Corefile}'"
        )
        message = f"{self.name} is a Kubernetes manifest, not a Corefile"
        raise corefile.CorefileError(corefile.Diagnostic(message, None, hint)) from None


def _made(make_corefile: Callable[[], corefile.GeneratedCorefile]) -> corefile.GeneratedCorefile:
    """Return the Corefile of a plugin's command; any failure of it is a `CorefileError`."""
    try:
        return make_corefile()
    except corefile.CorefileError:
        raise
    except Exception as error:  # plugin code: at a reload, the old configuration stays in use
        where = of_error(error).where
        message = f"the Corefile could not be made: {describe(error)} (at {where})"
        raise corefile.CorefileError(corefile.Diagnostic(message)) from error


def unreadable(error: OSError) -> str:
    """Return the error message for a Corefile that cannot be read."""
    hint = f"; to read standard input, use -conf {STDIN}" if error.filename == "-" else ""
    return f"corepy: cannot read the Corefile {error.filename}: {error.strerror}{hint}"
