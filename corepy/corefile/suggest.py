"""The nearest of several words or files, for "did you mean"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile.files import neighbours

if TYPE_CHECKING:
    from collections.abc import Collection

_LONGEST = 64


def suggest(word: str, choices: Collection[str]) -> str | None:
    """Return the choice that `word` is most likely a mistyping of, or None if none is near.

    One mistake is forgiven for every three letters, a swap of two neighbours being one, and any
    number of letters missing at the end. Case does not matter.
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
    """Return the path of the file beside it that `path` is most likely a mistyping of, or None."""
    folder, slash, name = path.rpartition("/")
    near = suggest(name, neighbours(path))
    return near and f"{folder}{slash}{near}"


def _is_beginning(folded: str, choice: str) -> bool:
    """Whether the word was cut short, such as "prom" for "prometheus"."""
    return len(folded) > 1 and len(choice) > len(folded) and choice.casefold().startswith(folded)


def _distance(left: str, right: str) -> int:
    """Return how many letters must be added, dropped, changed or swapped with their neighbour.

    Damerau-Levenshtein, optimal string alignment.
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
