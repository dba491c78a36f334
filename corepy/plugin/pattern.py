"""Regular expressions of a Corefile. They are RE2's, as Go's are: linear time, whatever the pattern
and whatever the text, since what they are tried on comes from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2

LONGEST_PATTERN = 10_000
"""Bytes of a pattern (CoreDNS: maxRegexpLen of plugin/errors, plugin/rewrite, plugin/template)."""

_NO_RE2 = (
    "regular expressions need the package google-re2: pip install google-re2, which compiles it"
    " where the index has no wheel for this Python and C library (needs g++ and the headers of RE2"
    " and Abseil: libre2-dev and libabsl-dev on Debian, re2-dev and abseil-cpp-dev on Alpine)"
)


def compile_pattern(text: str) -> re2._Regexp:
    """Return the compiled pattern; raises ValueError that says what is wrong with it, or that RE2
    is not installed.
    """
    try:
        import re2  # loaded only where a Corefile has a pattern
    except ImportError as error:
        raise ValueError(f"{_NO_RE2} ({error})") from None
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > LONGEST_PATTERN:
        raise ValueError(f"regex pattern too long: {length} > {LONGEST_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
        raise ValueError(f"invalid regular expression: {reason}") from None
