"""Stacks as they are taken from the interpreter, and their conversion to a profile's frames.

Taking a stack must be cheap, since the server stops meanwhile; it records code objects and
positions. Lines and names are looked up when the profile is encoded.
"""

from __future__ import annotations

import bisect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from corepy_pprof.profile import MAX_DEPTH, Frame

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from corepy_pprof.profile import Stack


class RawStack(NamedTuple):
    """A stack, the innermost frame first: no frame is kept alive, and no variable is read."""

    codes: tuple[CodeType, ...]
    offsets: tuple[int, ...]
    """The position in each code object, in bytes."""


def raw_stack(frame: FrameType | None) -> RawStack:
    """Return the stack of a frame that runs or waits."""
    codes: list[CodeType] = []
    offsets: list[int] = []
    while frame is not None and len(codes) < MAX_DEPTH:
        codes.append(frame.f_code)
        offsets.append(frame.f_lasti)
        frame = frame.f_back
    return RawStack(tuple(codes), tuple(offsets))


class FrameNames:
    """Converts stacks; remembers the tables of code objects that it has read."""

    def __init__(self) -> None:
        self._modules = modules_by_file()
        self._lines: dict[CodeType, tuple[list[int], list[int]]] = {}

    def stack(self, raw: RawStack) -> Stack:
        """Return the frames of `raw`."""
        return tuple(map(self._frame, raw.codes, raw.offsets))

    def _frame(self, code: CodeType, offset: int) -> Frame:
        name = qualified(self._modules, code.co_filename, code.co_qualname)
        return Frame(name, code.co_filename, self._line(code, offset), code.co_firstlineno)

    def _line(self, code: CodeType, offset: int) -> int:
        table = self._lines.get(code)
        if table is None:
            ranges = [(start, line) for start, _, line in code.co_lines() if line is not None]
            table = self._lines[code] = [it[0] for it in ranges], [it[1] for it in ranges]
        index = bisect.bisect_right(table[0], offset) - 1
        return table[1][index] if index >= 0 else code.co_firstlineno


def modules_by_file() -> dict[str, str]:
    """Return the names of the imported modules by the files of their code."""
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType):
            file = vars(module).get("__file__")  # getattr could run the module's code
            if isinstance(file, str):
                found.setdefault(file, name)
    return found


def qualified(modules: dict[str, str], file: str, name: str) -> str:
    """Return the name of a function of `file` with its module, if it is known."""
    module = modules.get(file) or file.removeprefix("<frozen ").removesuffix(">")
    return name if module == file else f"{module}.{name}"
