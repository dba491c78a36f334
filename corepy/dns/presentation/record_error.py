"""The exceptions of this package."""

from __future__ import annotations

from corepy.dns.form_error import FormError


class RecordError(ValueError):
    """The text is not a valid record.

    The message is `subject` and `problem`, such as "MX preference" and "is missing". `word` is the
    index of the word at fault in the record, and `offset` that of its first character in the text;
    both are None if unknown.
    """

    def __init__(
        self, problem: str, *, field: str | None = None, word: int | None = None,
        offset: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(problem)
        self.problem = problem
        self.rtype: str | None = None
        self.field = field
        self.word = word
        self.offset = offset

    @property
    def subject(self) -> str:
        """The type and the field at fault, or "record" for other errors."""
        return " ".join(part for part in (self.rtype, self.field) if part) or "record"

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}"


class NoTextForm(FormError):
    """The rdata is well formed, but the fields of its type cannot express it as text."""
