"""Regular expressions of a Corefile. They are RE2's, as Go's are: linear time, whatever the pattern
and whatever the text, since what they are tried on comes from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2

LONGEST_PATTERN = 10_000
"""Bytes of a pattern (CoreDNS: maxRegexpLen of plugin/errors, plugin/rewrite, plugin/template)."""


def compile_pattern(text: str) -> re2._Regexp:
    """Return the compiled pattern; raises ValueError that says what is wrong with it."""
    import re2  # loaded only where a Corefile has a pattern

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
