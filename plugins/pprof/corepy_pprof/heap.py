"""The heap profile: the memory that Python code has allocated, by tracemalloc.

tracemalloc knows only what was allocated while it traced, and costs CPU time and memory as long as
it does. So it traces during a request, or, with the option `heap`, from the start of the server.
"""

from __future__ import annotations

import sys
import tracemalloc
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

from corepy_pprof.frames import modules_by_file, qualified
from corepy_pprof.profile import Frame, Sample

if TYPE_CHECKING:
    from tracemalloc import Snapshot, Traceback
    from types import ModuleType


def samples(snapshot: Snapshot) -> list[Sample]:
    """Return number and bytes of the memory blocks by the stack that allocated them.

    This takes long; call it in a thread. tracemalloc's own memory is left out.
    """
    functions = Functions()
    own = tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)
    found = snapshot.filter_traces((own,)).statistics("traceback")
    return [
        Sample(functions.stack(it.traceback), (it.count, it.size)) for it in found if it.size > 0
    ]


class Functions:
    """The functions at lines of files: tracemalloc records files and lines only.

    They are found in the modules of the files. Reading the source again could hold the
    interpreter's lock for long, and it may be missing or changed.
    """

    def __init__(self) -> None:
        self._modules = modules_by_file()
        self._tables: dict[str, dict[int, CodeType]] = {}

    def stack(self, traceback: Traceback) -> tuple[Frame, ...]:
        """Return the frames of a traceback, the innermost first."""
        return tuple(self._frame(it.filename, it.lineno) for it in reversed(traceback))

    def _frame(self, file: str, line: int) -> Frame:
        table = self._tables.get(file)
        if table is None:
            module = sys.modules.get(self._modules.get(file, ""))
            table = self._tables[file] = lines_of(module, file) if module is not None else {}
        code = table.get(line)
        if code is None:  # the module's own code, or a function that only variables refer to
            return Frame(qualified(self._modules, file, f"line {line}"), file, line)
        name = qualified(self._modules, file, code.co_qualname)
        return Frame(name, file, line, code.co_firstlineno)


def lines_of(module: ModuleType, file: str) -> dict[int, CodeType]:
    """Return the innermost function of each line in `file`, of those in the module's variables."""
    table: dict[int, CodeType] = {}
    waiting: list[object] = list(vars(module).values())
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, type):
            if found.__module__ == module.__name__ and id(found) not in seen:
                seen.add(id(found))
                waiting += vars(found).values()
        elif isinstance(found, property):
            waiting += (found.fget, found.fset, found.fdel)
        elif isinstance(found, staticmethod | classmethod):
            waiting.append(found.__func__)
        elif isinstance(found, FunctionType):
            if found.__code__.co_filename == file:
                _collect(found.__code__, table)
            waiting.append(vars(found).get("__wrapped__"))
    return table


def _collect(code: CodeType, table: dict[int, CodeType]) -> None:
    """Enter the lines of `code`, and then those of the functions in it."""
    for _, _, line in code.co_lines():
        if line is not None:
            table[line] = code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _collect(constant, table)
