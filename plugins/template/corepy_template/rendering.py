"""A compiled template: closures that build the text, and the state they work on.

An `Evaluate` returns a value. A `Node` appends to the frame's text and returns how to continue.
Templates come from the operator, but their data comes from untrusted queries. So the methods of
`Frame` limit the work and memory of each rendering while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from corepy_template.values import MOST_TEXT, NO_VALUE, TemplateError, to_text

MOST_STEPS: Final = 10_000
"""Total of actions, function calls, `range` iterations and `printf` verbs in one rendering."""

MOST_WORK: Final = 4 * MOST_TEXT
"""Total of characters in all strings that functions read and return in one rendering."""

MOST_NESTING: Final = 100
"""Maximum depth of nested blocks and parentheses in a template."""

GO_ON: Final = 0
BREAK: Final = 1
CONTINUE: Final = 2


class SyntaxProblem(Exception):
    """An error in the text of a template, with its offset in characters."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.hint = hint


class Frame:
    """The state of one rendering."""

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
        """Append to the text; raises TemplateError if it gets too long."""
        self._out.append(text)
        self._length += len(text)
        if self._length > MOST_TEXT:
            raise TemplateError(f"the text is longer than {MOST_TEXT} characters")

    def count_steps(self, steps: int = 1) -> None:
        """Count steps; raises TemplateError if there are too many."""
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise TemplateError(f"more than {MOST_STEPS} steps")

    def count_characters(self, value: object) -> None:
        """Count the characters of a string that is used; raises TemplateError."""
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
    """A compiled template, ready to be rendered."""

    def __init__(
        self, source: str, node: Node | None, variables: int, fields: frozenset[str]
    ) -> None:
        """Without `node` the source itself is the result."""
        self.source = source
        self.location = ""
        """File and line of the source, for messages."""
        self.fields = fields
        """The fields of the data that the template uses; "*" means the data as a whole."""
        self.members: Sequence[tuple[str, str, int]] = ()
        """The parts of the fields Group and Var: field, part, and the offset in the source."""
        self.labels: Sequence[tuple[str, int]] = ()
        """The labels of metadata that the template reads, with their offsets in the source."""
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
    """Return a node that runs `nodes` in order."""
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
    """Return a node that appends `text`."""

    def append(frame: Frame) -> int:
        frame.put(text)
        return GO_ON

    return append


def range_items(value: object, variables: int) -> Sequence[tuple[object, object]]:
    """Return the (index, element) pairs of a `range`; raises TemplateError."""
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
