"""Compiles the regular expressions of a Corefile with RE2, as Go does.

RE2 matches in linear time for every pattern and text, because the texts come from untrusted
clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import re2

LONGEST_PATTERN = 10_000
"""Maximum bytes of a pattern (CoreDNS: maxRegexpLen of plugin/errors, /rewrite, /template)."""

_NO_RE2 = (
    "regular expressions need the package google-re2: pip install google-re2, which compiles it"
    " where the index has no wheel for this Python and C library (needs g++ and the headers of RE2"
    " and Abseil: libre2-dev and libabsl-dev on Debian, re2-dev and abseil-cpp-dev on Alpine)"
)


class NamePattern:
    """A regular expression for domain names in presentation form; see `Controller.name_pattern`.

    Names are ASCII, so it is applied to bytes. Measured: 17 us instead of 29 for a match with five
    groups, and 1.4 us instead of 4.2 if the name does not match.
    """

    __slots__ = ("_numbers", "_search", "groups", "named_groups", "text")

    def __init__(self, text: str, *, ignores_case: bool = False) -> None:
        """Compile a pattern; raises ValueError as `compile_pattern` does."""
        compiled = compile_pattern(text, for_bytes=True, ignores_case=ignores_case)
        self._search = compiled.search
        self._numbers = range(compiled.groups + 1)
        self.text = text
        self.groups = compiled.groups
        """The number of groups."""
        named = compiled.groupindex.items()
        self.named_groups: Mapping[str, int] = {name.decode(): number for name, number in named}
        """The names of groups with the group's number."""

    def find(self, name: str) -> Sequence[str] | None:
        """Return the first match in a name and its groups, "" for unmatched groups."""
        found = self._search(name.encode())
        if found is None:
            return None
        if len(self._numbers) == 1:
            return [found[0].decode()]
        return ["" if text is None else text.decode() for text in found.group(*self._numbers)]


def compile_pattern(
    text: str, *, for_bytes: bool = False, ignores_case: bool = False, memory: int | None = None
) -> re2._Regexp:
    """Return the compiled pattern; raise ValueError if it is invalid or RE2 is not installed.

    With `for_bytes` it is applied to texts in UTF-8, which saves RE2's Python module the conversion
    of the offsets of characters. `memory` is the maximum size in bytes, by default that of RE2.
    """
    try:
        import re2  # imported only if a Corefile contains a pattern
    except ImportError as error:
        raise ValueError(f"{_NO_RE2} ({error})") from None
    length = len(text.encode("utf-8", "surrogatepass"))
    if length > LONGEST_PATTERN:
        raise ValueError(f"regex pattern too long: {length} > {LONGEST_PATTERN}")
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignores_case
    if memory is not None:
        options.max_mem = memory
    try:
        return re2.compile(text.encode() if for_bytes else text, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0]
        reason = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
        raise ValueError(f"invalid regular expression: {reason}") from None
