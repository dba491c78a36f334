"""What a compiled template is: closures that put text together, and what they work on.

An `Evaluate` returns a value, a `Node` appends to `Frame.out` and returns how to go on. Templates
come from the operator but work on what strangers ask, so the work that one rendering may do is
bounded: `Frame.spend`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from corepy_template.values import NO_VALUE, TemplateError, to_text

MOST_STEPS: Final = 10_000
"""Turns of all `range` loops of one rendering."""

MOST_TEXT: Final = 131_072
"""Characters of one rendering; no record is longer."""

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

    __slots__ = ("_steps", "data", "dot", "out", "variables")

    def __init__(self, data: object, variables: int) -> None:
        self.data = data
        self.dot = data
        self.variables: list[object] = [None] * variables
        self.out: list[str] = []
        self._steps = 0

    def spend(self) -> None:
        """Count a turn of a loop; raises TemplateError when there were too many."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TemplateError(f"more than {MOST_STEPS} turns of range")


Evaluate = Callable[[Frame], object]
Node = Callable[[Frame], int]


class Template:
    """A text with actions, ready to be rendered."""

    def __init__(
        self, source: str, node: Node | None, variables: int, fields: frozenset[str]
    ) -> None:
        """Without `node` the source is the text itself."""
        self.source = source
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
        text = "".join(frame.out)
        if len(text) > MOST_TEXT:
            raise TemplateError(f"the text is longer than {MOST_TEXT} characters")
        return text


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
        frame.out.append(text)
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
            raise TemplateError(f"more than {MOST_STEPS} turns of range")
        return [(index, index) for index in range(value)]
    raise TemplateError(f"range can't iterate over {to_text(value)}")
