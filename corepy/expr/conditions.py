"""Conditions of a plugin: all of several expressions must be true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from corepy.expr.expression import Expression, failure
from corepy.expr.frame import MOST_MEMORY, MOST_STEPS, ExpressionError, Frame

_NO_NAMES: dict[str, object] = {}


class Conditions:
    """Whether all of several expressions are true, for one query after the other.

    It is faster than evaluating them one by one, and they share the limits on work. The environment
    of the expressions has no variables.
    """

    __slots__ = ("_frame", "_keeps_frame", "_report", "_runs", "_slots")

    def __init__(
        self, expressions: Sequence[Expression], report: Callable[[Any, ExpressionError], None]
    ) -> None:
        """`report` gets the query and the reason if an expression has no value."""
        self._runs = tuple(each.run for each in expressions)
        self._report = report
        self._slots = max((each.slots for each in expressions), default=0)
        self._keeps_frame = all(each.is_stateless for each in expressions)
        self._frame: Frame | None = None
        """The frame of the last query, which saves making one; None while it is in use."""

    def accept(self, subject: Any) -> bool:
        """Return whether all expressions are true; one without a value is not. Raises nothing."""
        frame = self._frame
        if frame is None:
            frame = Frame(subject, _NO_NAMES, self._slots)
        else:
            self._frame = None
            frame.subject = subject
        try:
            for run in self._runs:
                if run(frame) is not True:
                    return False
        except Exception as error:  # as in Expression.evaluate
            self._report(subject, failure(error))
            return False
        finally:
            if self._keeps_frame:
                frame.subject, frame.steps, frame.memory = None, MOST_STEPS, MOST_MEMORY
                self._frame = frame
        return True
