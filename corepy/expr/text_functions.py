"""The functions of the language for strings (expr-lang: builtin/builtin.go)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import TEXT, WHOLE, Builtin, text_of
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.value_types import BOOL, INT, STRING, STRINGS

_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The white space of Go (unicode.IsSpace), which str.strip does not take."""

_COMPARED_IN_A_STEP: Final = 1024
"""Pairs of characters that count as a step, where the time is that of all pairs in the worst case.

That is so for `strip` and `rfind`; the other functions of Python need linear time.
"""

_MOST_REPETITIONS: Final = 1_000_000


def _trim(frame: Frame, value: object, characters: object = _SPACE) -> str:
    text, chars = text_of(frame, value, "trim"), v.as_text(characters, "trim")
    frame.step(len(text) * len(chars) // _COMPARED_IN_A_STEP)
    return text.strip(chars) if chars else text


def _trim_prefix(frame: Frame, value: object, prefix: object = " ") -> str:
    return text_of(frame, value, "trimPrefix").removeprefix(v.as_text(prefix, "trimPrefix"))


def _trim_suffix(frame: Frame, value: object, suffix: object = " ") -> str:
    return text_of(frame, value, "trimSuffix").removesuffix(v.as_text(suffix, "trimSuffix"))


def _upper(frame: Frame, value: object) -> str:
    return _mapped(text_of(frame, value, "upper"), str.upper)


def _lower(frame: Frame, value: object) -> str:
    return _mapped(text_of(frame, value, "lower"), str.lower)


def _mapped(text: str, convert: Callable[[str], str]) -> str:
    """Convert character by character, as Go: none becomes two."""
    if text.isascii():
        return convert(text)
    return "".join(new if len(new := convert(char)) == 1 else char for char in text)


def _split(frame: Frame, value: object, mark: object, most: object = -1) -> list[str]:
    return _pieces(frame, value, mark, most, "")


def _split_after(frame: Frame, value: object, mark: object, most: object = -1) -> list[str]:
    return _pieces(frame, value, mark, most, v.as_text(mark, "splitAfter"))


def _pieces(frame: Frame, value: object, mark: object, most: object, kept: str) -> list[str]:
    """Split a string (Go: strings.SplitN); each piece but the last one ends with `kept`."""
    text, separator = text_of(frame, value, "split"), v.as_text(mark, "split")
    limit = v.as_int(most, "split")
    if limit == 0:
        return []
    if separator:
        pieces = text.split(separator, limit - 1 if limit > 0 else -1)
    else:
        cut = len(text) if limit < 0 else min(limit - 1, len(text))
        pieces = [*text[:cut], text[cut:]] if cut < len(text) else list(text)
    frame.take(len(pieces))
    if not kept:
        return pieces
    return [*(piece + kept for piece in pieces[:-1]), *pieces[-1:]]


def _replace(frame: Frame, value: object, old: object, new: object, most: object = -1) -> str:
    text, before = text_of(frame, value, "replace"), v.as_text(old, "replace")
    after, limit = v.as_text(new, "replace"), v.as_int(most, "replace")
    times = text.count(before)
    times = times if limit < 0 else min(times, limit)
    frame.text_of(len(text) + times * max(len(after) - len(before), 0))
    return text.replace(before, after, times)


def _repeat(frame: Frame, value: object, times: object) -> str:
    text, count = v.as_text(value, "repeat"), v.as_int(times, "repeat")
    if count < 0:
        raise ExpressionError(f"repeat cannot repeat a string {count} times")
    if count > _MOST_REPETITIONS:
        raise ExpressionError(f"repeat repeats a string up to {_MOST_REPETITIONS} times")
    frame.text_of(len(text) * count)
    return text * count


def _position(name: str, find: Callable[[bytes, bytes], int]) -> Callable[..., int]:
    """Return a function that finds a string in another one; positions are in bytes."""

    def position(frame: Frame, value: object, part: object) -> int:
        text, wanted = text_of(frame, value, name), text_of(frame, part, name)
        frame.step(len(text) * len(wanted) // _COMPARED_IN_A_STEP)
        return find(v.to_bytes(text), v.to_bytes(wanted))

    return position


def _has(name: str, test: Callable[[str, str], bool]) -> Callable[..., bool]:
    def has(frame: Frame, value: object, part: object) -> bool:
        return test(text_of(frame, value, name), text_of(frame, part, name))

    return has


def _to_base64(frame: Frame, value: object) -> str:
    return frame.text(base64.b64encode(v.to_bytes(text_of(frame, value, "toBase64"))).decode())


def _from_base64(frame: Frame, value: object) -> str:
    text = text_of(frame, value, "fromBase64").replace("\r", "").replace("\n", "")
    try:
        return v.from_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ExpressionError("fromBase64: the string is not Base64") from None


def _function(
    name: str, call: Callable[..., Any], result: Any, *parameters: Any, **more: Any
) -> Builtin:
    return Builtin(name, parameters, result, call, **more)


TEXT_FUNCTIONS: Final = (
    _function("trim", _trim, STRING, TEXT, TEXT, optional=1),
    _function("trimPrefix", _trim_prefix, STRING, TEXT, TEXT, optional=1),
    _function("trimSuffix", _trim_suffix, STRING, TEXT, TEXT, optional=1),
    _function("upper", _upper, STRING, TEXT),
    _function("lower", _lower, STRING, TEXT),
    _function("split", _split, STRINGS, TEXT, TEXT, WHOLE, optional=1),
    _function("splitAfter", _split_after, STRINGS, TEXT, TEXT, WHOLE, optional=1),
    _function("replace", _replace, STRING, TEXT, TEXT, TEXT, WHOLE, optional=1),
    _function("repeat", _repeat, STRING, TEXT, WHOLE),
    _function("indexOf", _position("indexOf", bytes.find), INT, TEXT, TEXT),
    _function("lastIndexOf", _position("lastIndexOf", bytes.rfind), INT, TEXT, TEXT),
    _function("hasPrefix", _has("hasPrefix", str.startswith), BOOL, TEXT, TEXT),
    _function("hasSuffix", _has("hasSuffix", str.endswith), BOOL, TEXT, TEXT),
    _function("toBase64", _to_base64, STRING, TEXT),
    _function("fromBase64", _from_base64, STRING, TEXT),
)
