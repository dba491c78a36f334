"""Finds the nearest of several words or files, for "did you mean"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile.files import neighbours

if TYPE_CHECKING:
    from collections.abc import Collection

_LONGEST = 64


def suggest(word: str, choices: Collection[str]) -> str | None:
    """Return the choice that `word` is most likely a typo of, or None if none is near.

    One edit is allowed for every three letters, with a swap of two neighbours as one edit. Any
    number of letters may be missing at the end. The match is case-insensitive.
    """
    if not word or len(word) > _LONGEST:
        return None
    folded, most = word.casefold(), len(word) // 3
    best, best_score = None, (most + 1, 0)
    for choice in choices:
        difference = abs(len(choice) - len(word))
        if choice == word or difference > most:
            continue
        score = (_distance(folded, choice.casefold()), difference)
        if score < best_score:
            best, best_score = choice, score
    if best is None:
        best = next((choice for choice in choices if _is_beginning(folded, choice)), None)
    return best


def suggest_file(path: str) -> str | None:
    """Return the path of the most similar file in the same folder as `path`, or None."""
    folder, slash, name = path.rpartition("/")
    near = suggest(name, neighbours(path))
    return near and f"{folder}{slash}{near}"


def _is_beginning(folded: str, choice: str) -> bool:
    """Return whether the word is an abbreviation of `choice`, such as "prom" for "prometheus"."""
    return len(folded) > 1 and len(choice) > len(folded) and choice.casefold().startswith(folded)


def _distance(left: str, right: str) -> int:
    """Return the number of insertions, deletions, substitutions and swaps between two words.

    This is the Damerau-Levenshtein distance (optimal string alignment).
    """
    before: list[int] = []
    above = list(range(len(right) + 1))
    for row, letter in enumerate(left, 1):
        current = [row]
        for column, other in enumerate(right, 1):
            cost = min(above[column] + 1, current[-1] + 1, above[column - 1] + (letter != other))
            if row > 1 and column > 1 and letter == right[column - 2] and left[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, above = above, current
    return above[-1]
