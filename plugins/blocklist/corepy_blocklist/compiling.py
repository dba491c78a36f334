"""Makes a table of all files. A file that cannot be used keeps the rules of the table before."""

from __future__ import annotations

import codecs
import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from corepy.dns.constants import TYPE_CNAME
from corepy.dns.names import ROOT, InvalidName
from corepy.plugin.filedata import LARGEST
from corepy.plugin.reading import read_file
from corepy_blocklist.list_lines import Unsupported, read_line, read_lines
from corepy_blocklist.names import Unusable, zone_name
from corepy_blocklist.rpz import ZoneReader
from corepy_blocklist.rule import Action, SourceFile, SourceKind
from corepy_blocklist.table_writer import TableWriter, TooLargeError
from corepy_blocklist.transfer_client import read_wire_records
from corepy_blocklist.zone_text import read_records, zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy_blocklist.rpz import Policy
    from corepy_blocklist.table import Table
    from corepy_blocklist.zone_text import ZoneRecord

_LONGEST_PROBLEM: Final = 300


@dataclass(slots=True)
class FileReport:
    """The result of reading a file; becomes a part of the description of the table."""

    kind: int
    path: str
    zone: str
    rules: int = 0
    digest: str = ""
    problem: str = ""
    """Why the file was not used, "" if it was."""

    is_kept: bool = False
    """Whether the rules are those of the table before."""

    unsupported: dict[str, list[int]] = field(default_factory=dict)
    """Kinds of lines without effect: their number, and the line of the first."""

    unusable: int = 0
    """The number of malformed lines."""

    first_unusable: str = ""
    serial: int | None = None


class BrokenFileError(ValueError):
    """A file cannot be what it is configured as."""


def source_number(index: int, files: int, *, allows: bool) -> int:
    """Return the number of the rules of a file in a table: those that allow precede all others."""
    return index if allows else files + index


def compile_files(
    files: Sequence[SourceFile], plain_scope: int, output: BinaryIO, previous: Table | None
) -> None:
    """Write the table of `files`; raises TooLargeError, and OSError of `output`.

    `plain_scope` is the scope of plain names in lists.
    """
    writer = TableWriter()
    reports = []
    for index, file in enumerate(files):
        report = FileReport(int(file.kind), file.label, file.zone)
        mark = writer.mark()
        try:
            _Reading(writer, report, index, len(files), plain_scope).read(file)
        except OSError as error:
            report.problem = f"cannot be read: {error.strerror or error}"
        except TooLargeError:
            raise
        except ValueError as error:
            report.problem = str(error)[:_LONGEST_PROBLEM]
        if report.problem:
            writer.roll_back(mark)
            _keep(writer, report, index, len(files), previous)
        reports.append(report)
    digest = hashlib.sha256(repr((plain_scope, [it.digest for it in reports])).encode())
    writer.write(output, {"files": [asdict(it) for it in reports], "digest": digest.hexdigest()})


class _Reading:
    """Adds the rules of one file to a table."""

    def __init__(
        self, writer: TableWriter, report: FileReport, index: int, files: int, plain_scope: int
    ) -> None:
        self._writer = writer
        self._report = report
        self._plain_scope = plain_scope
        self._policy = source_number(index, files, allows=False)
        self._exception = source_number(index, files, allows=True)

    def read(self, file: SourceFile) -> None:
        """Add the rules of `file`; raises OSError and ValueError."""
        is_transferred = file.kind is SourceKind.TRANSFERRED_RPZ
        if is_transferred:
            content = _read_descriptor(int(file.path))
        else:
            content, _ = read_file(Path(file.path), LARGEST)
        self._report.digest = hashlib.sha256(content).hexdigest()
        if is_transferred:
            origin = zone_name(file.zone)
            self._add_zone(origin, read_wire_records(content))
            return
        if not content.strip():
            raise BrokenFileError("is empty; a comment in it would confirm that")
        if b"\0" in content:
            raise BrokenFileError("contains NUL bytes, as a file that was not written completely")
        if file.kind is SourceKind.RPZ:
            self._read_zone(content, file.zone)
        else:
            self._read_list(content, is_allow=file.kind is SourceKind.ALLOW)

    def _read_list(self, content: bytes, *, is_allow: bool) -> None:
        report, add, scope = self._report, self._writer.add, self._plain_scope
        for number, line in enumerate(read_lines(content), 1):
            try:
                found = read_line(line, scope)
            except Unsupported as problem:
                report.unsupported.setdefault(str(problem), [0, number])[0] += 1
                continue
            except Unusable as problem:
                report.unusable += 1
                report.first_unusable = report.first_unusable or f"line {number}: {problem}"
                continue
            for name, name_scope, is_exception in found:
                report.rules += 1
                if is_allow or is_exception:
                    add(name, name_scope, Action.PASSTHRU, self._exception, number)
                else:
                    add(name, name_scope, Action.LISTED, self._policy, number)
        if report.unusable > report.rules + sum(it[0] for it in report.unsupported.values()):
            raise BrokenFileError(f"is not a list of names: {report.first_unusable}")

    def _read_zone(self, content: bytes, zone: str) -> None:
        text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        try:
            origin = zone_name(zone) if zone else zone_of(text) or ROOT
        except InvalidName as error:
            raise BrokenFileError(str(error)) from None
        self._add_zone(origin, read_records(text, origin))

    def _add_zone(self, origin: bytes, records: Iterable[ZoneRecord]) -> None:
        reader = ZoneReader(origin)
        for policy in reader.read(records):
            self._add_policy(policy)
        self._report.serial = reader.serial
        self._report.unsupported = {
            kind: [number, reader.first_line[kind]] for kind, number in reader.unsupported.items()
        }

    def _add_policy(self, policy: Policy) -> None:
        line, (key, scope), action, records = policy
        if action is Action.LOCAL_DATA:
            line = self._writer.add_records(line, records, TYPE_CNAME)
        self._writer.add(key, scope, action, self._policy, line)
        self._report.rules += 1


def _read_descriptor(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _keep(
    writer: TableWriter, report: FileReport, index: int, files: int, previous: Table | None
) -> None:
    """Add the rules that a file has in the table before."""
    if previous is None:
        return
    identity = report.kind, report.path, report.zone
    before = previous.files
    for old, known in enumerate(before):
        if (known["kind"], known["path"], known["zone"]) == identity and known["rules"]:
            _copy(writer, previous, (old, len(before)), (index, files))
            _adopt(report, known)
            return


def _adopt(report: FileReport, known: dict[str, Any]) -> None:
    for name in ("rules", "digest", "serial", "unusable", "first_unusable", "unsupported"):
        setattr(report, name, known[name])
    report.is_kept = True


def _copy(writer: TableWriter, table: Table, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Copy the rules of a file; `old` and `new` are its index and the number of files."""
    for key, scope, rule in table.entries():
        if rule.source % old[1] != old[0]:
            continue
        source = source_number(*new, allows=rule.source < old[1])
        number = rule.line
        if rule.action is Action.LOCAL_DATA:
            number = writer.add_records(table.line_of(rule), table.records(rule), TYPE_CNAME)
        writer.add(key, scope, rule.action, source, number)
