"""What a compiled template is: closures that put text together, and what they work on.

An `Evaluate` returns a value, a `Node` appends to the frame's text and returns how to go on.
Templates come from the operator but work on what strangers ask, so the work and the memory of one
rendering are bounded while it runs, by the methods of `Frame`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from corepy_template.values import MOST_TEXT, NO_VALUE, TemplateError, to_text

MOST_STEPS: Final = 10_000
"""Actions, function calls, turns of `range` and verbs of `printf` of one rendering, together."""

MOST_WORK: Final = 4 * MOST_TEXT
"""Characters of all strings that the functions of one rendering read and make, together."""

MOST_NESTING: Final = 100
"""Blocks and parentheses of a template that may stand in one another."""

GO_ON: Final = 0
BREAK: Final = 1
CONTINUE: Final = 2


class SyntaxProblem(Exception):
    """A text is no template: what is wrong, and the offset in characters where it is."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.hint = hint


class Frame:
    """One rendering."""

    __slots__ = ("_length", "_out", "_steps", "_work", "data", "dot", "variables")

    def __init__(self, data: object, variables: int) -> None:
        self.data = data
        self.dot = data
        self.variables: list[object] = [None] * variables
        self._out: list[str] = []
        self._length = 0
        self._steps = 0
        self._work = 0

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._out)

    def put(self, text: str) -> None:
        """Append to the text; raises TemplateError when it gets too long."""
        self._out.append(text)
        self._length += len(text)
        if self._length > MOST_TEXT:
            raise TemplateError(f"the text is longer than {MOST_TEXT} characters")

    def spend(self, steps: int = 1) -> None:
        """Count steps; raises TemplateError when there were too many."""
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise TemplateError(f"more than {MOST_STEPS} steps")

    def charge(self, value: object) -> None:
        """Count the characters of a string that is worked on; raises TemplateError."""
        if type(value) is not str:
            return
        length = len(value)
        if length > MOST_TEXT:
            raise TemplateError(f"a string is longer than {MOST_TEXT} characters")
        self._work += length
        if self._work > MOST_WORK:
            raise TemplateError(f"more than {MOST_WORK} characters in all strings")


Evaluate = Callable[[Frame], object]
Node = Callable[[Frame], int]


class Template:
    """A text with actions, ready to be rendered."""

    def __init__(
        self, source: str, node: Node | None, variables: int, fields: frozenset[str]
    ) -> None:
        """Without `node` the source is the text itself."""
        self.source = source
        self.place = ""
        """File and line that it stands in, for messages."""
        self.fields = fields
        """The fields of the data that it looks at; "*" stands for the data as a whole."""
        self._node = node
        self._variables = variables

    @property
    def is_constant(self) -> bool:
        """Whether the text is the same for all data."""
        return self._node is None

    def render(self, data: object) -> str:
        """Return the text for `data`; raises TemplateError."""
        if self._node is None:
            return self.source
        frame = Frame(data, self._variables)
        try:
            self._node(frame)
        except RecursionError:
            raise TemplateError("nested too deeply") from None
        except (ValueError, OverflowError, MemoryError) as error:
            raise TemplateError(str(error)) from None
        return frame.text


def sequence(nodes: Sequence[Node]) -> Node:
    """Return the node that does what `nodes` do, one after the other."""
    if len(nodes) == 1:
        return nodes[0]

    def run(frame: Frame) -> int:
        for node in nodes:
            signal = node(frame)
            if signal:
                return signal
        return GO_ON

    return run


def text_node(text: str) -> Node:
    """Return the node that appends `text`."""

    def append(frame: Frame) -> int:
        frame.put(text)
        return GO_ON

    return append


def turns(value: object, variables: int) -> Sequence[tuple[object, object]]:
    """Return (index, element) of what `range` goes through; raises TemplateError."""
    if value is None or value is NO_VALUE:
        return ()
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if type(value) is int:
        if variables > 1:
            raise TemplateError("range over an integer has one variable")
        if value > MOST_STEPS:
            raise TemplateError(f"more than {MOST_STEPS} steps")
        return [(index, index) for index in range(value)]
    raise TemplateError(f"range can't iterate over {to_text(value)}")
