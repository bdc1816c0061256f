"""Small accidents of writing: typos, abbreviations, letter case, word order."""

import random
import string
from collections.abc import Mapping, Sequence

from models.data.synthetic.vocabulary import BRAND, SIZE, Vocabulary

# Where each part stands in a usual title: before the name (adjectives of English, German, Japanese) or after.
_BEFORE = ("condition", "brand", "audience", "colour", "trait", "material", "name", "size")
_AFTER = ("name", "audience", "material", "colour", "trait", "brand", "size", "condition")
ORDER: Mapping[str, tuple[str, ...]] = {
    "en": _BEFORE,
    "de": _BEFORE,
    "ja": ("brand", "trait", "colour", "material", "name", "audience", "size", "condition"),
    "es": _AFTER,
    "pt": _AFTER,
    "fr": _AFTER,
}
_SHORTEST_WORD = 4  # a slip in a shorter word makes another word


def facet_word(vocabulary: Vocabulary, leaf: int, facet: int, value: int, language: str, dice: random.Random) -> str:
    """One of the forms in which that language writes the value of a facet."""
    if facet == SIZE:
        return vocabulary.leaves[leaf].sizes[value]
    if facet == BRAND:
        return vocabulary.facet_keys[BRAND][value]
    forms = vocabulary.facet_words[facet][value][language]
    return forms[0] if len(forms) == 1 or dice.random() < 0.75 else dice.choice(forms[1:])


def arrange(parts: Mapping[str, str], language: str, dice: random.Random, *, shuffle: float) -> str:
    """The parts in the order of the language, or with probability `shuffle` in any order."""
    words = [parts[part] for part in ORDER[language] if part in parts]
    if dice.random() < shuffle:
        dice.shuffle(words)
    return " ".join(words)


def misspell(text: str, dice: random.Random) -> str:
    """One slip in one longer word: letters swapped, dropped, doubled; unchanged where no word is long enough."""
    words = text.split(" ")
    candidates = [number for number, word in enumerate(words) if len(word) >= _SHORTEST_WORD]
    if not candidates:
        return text
    chosen = dice.choice(candidates)
    words[chosen] = _slip(words[chosen], dice)
    return " ".join(words)


def _slip(word: str, dice: random.Random) -> str:
    at = dice.randrange(1, len(word) - 1)
    return dice.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )


def abbreviate(text: str, short: Mapping[str, str]) -> str:
    for long_form, short_form in short.items():
        text = text.replace(long_form, short_form)
    return text


def recase(text: str, dice: random.Random) -> str:
    chance = dice.random()
    if chance < 0.08:
        return text.upper()
    if chance < 0.3:
        return text.lower()
    return text[:1].upper() + text[1:] if chance < 0.7 else string.capwords(text)


def pick(words: Sequence[str], dice: random.Random) -> str:
    return words[int(dice.random() * len(words))]
