"""The comparisons of text/template, which require values of the same kind."""

from __future__ import annotations

from collections.abc import Sequence

from corepy_template.values import NO_VALUE, TemplateError, kind, to_bytes, type_name


def _comparable(value: object) -> type:
    of_kind = kind(value)
    if of_kind is None:
        raise TemplateError("invalid type for comparison")
    return of_kind


def is_nothing(value: object) -> bool:
    """Return whether a value is Go's nil or missing."""
    return value is None or value is NO_VALUE


def equals_any(values: Sequence[object]) -> bool:
    """Go's `eq`: whether the first value equals one of the others."""
    first, *others = values
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_are_equal(first, other) for other in others)


def _are_equal(one: object, other: object) -> bool:
    if is_nothing(one) or is_nothing(other):
        return is_nothing(one) and is_nothing(other)
    if kind(one) is None and one is other:
        raise TemplateError(f"non-comparable type {type_name(one)}")
    if _comparable(one) is not _comparable(other):
        raise TemplateError("incompatible types for comparison")
    return one == other


def is_less(values: Sequence[object]) -> bool:
    """Go's `lt`, for two values of one kind."""
    one, other = values
    of_kind = _comparable(one)
    if of_kind is not _comparable(other):
        raise TemplateError("incompatible types for comparison")
    if of_kind is bool:
        raise TemplateError("invalid type for comparison")
    if isinstance(one, str):
        return to_bytes(one) < to_bytes(str(other))
    return bool(one < other)  # type: ignore[operator]  # both are int or both float


def is_at_most(values: Sequence[object]) -> bool:
    """Go's `le`."""
    return is_less(values) or equals_any(values)
