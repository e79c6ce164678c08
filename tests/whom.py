"""Looking for whom something is about in what was said, without being fooled by chance."""

import re
from collections.abc import Iterable

SHORT = 5  # Characters that a random key, a digest or a time holds by chance, once in some hundred runs.


def told_of(words: Iterable[str], said: str) -> list[str]:
    """Return the words that stand in a text, in any case: long ones anywhere, short ones as whole words."""
    return [word for word in words if _pattern(word).search(said)]


def _pattern(word: str) -> re.Pattern[str]:
    told = re.escape(word)
    if len(word) <= SHORT:
        # A number is none of the fraction of a second, and none of the middle of a UUID.
        before = r"(?<![\w.-])" if word.isdigit() else r"(?<![^\W_])"
        told = rf"{before}{told}(?![^\W_])"
    return re.compile(told, re.IGNORECASE)
