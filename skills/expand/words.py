"""Words of a query and of its expansion: which are content, which are kin, which are names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise, takewhile

STOP_WORDS = frozenset(
    "a about after all also am an and any are as at be been before being but by can could did do does doing during each"
    " else for from get had has have having he her here his how i if in into is it its just me more most much my no not of"
    " on one or other our out over own she should so some such than that the their them then there these they this those"
    " to too under up us use used using very vs was way we were what when where which while who whom whose why will with"
    " within without would you your".split()
)
NEUTRAL = frozenset(
    "affect affected apply approach begin best better change choose common compare consider create depend describe"
    " difference different effect effective example explain find get good guide help important improve improved include"
    " involve key kind know known learn limit limits main make making matter mean method need order part process provide"
    " purpose relate role say show start step steps support term terms tip tips type understand useful way ways work works"
    " working".split()
)
"""Words of questions about anything."""
_WORD = re.compile(r"[^\W_]+[+#]*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Letters of scripts whose words are not separated by spaces, or hardly inflect by endings that could be cut off."""
_SHORTEST_BEGINNING = 3
_SHARED_BEGINNING = 4
_ALIKE = 0.5
"""Dice coefficient of the letter trigrams of two words from which one counts as a spelling of the other."""
_ACRONYM = range(2, 7)
"""Letters of an acronym."""
_MOST_KEYWORDS = 8

_EXCLUDES = re.compile(r"-(?:\"|\w\w)")
_JOINTS = re.compile(r"[\s_’'\"./-]")
_MARKS = ".,!?:;()[]{}\"'“”‘’«»*`"
_SIGNS = re.compile(r"[^\W_]\.[^\W_]|@|[^\W_](?:\+\+|#)")
"""What file names, addresses and some languages have inside."""
_COMMON_SHAPE = re.compile(r"\d+(?:st|nd|rd|th|s|x|k|d|h|%|-[a-z]+)|e\.g|i\.e|and/or", re.IGNORECASE)
_OPERATORS = frozenset({"AND", "OR", "NOT"})


def words(text: str) -> list[str]:
    """Words in lower case without accents; ``C++`` and ``C#`` stay whole, ``node.js`` is two."""
    if not text.isascii():
        letters = (letter for letter in unicodedata.normalize("NFKD", text) if unicodedata.category(letter) != "Mn")
        text = unicodedata.normalize("NFC", "".join(letters))
    return _WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """The words that are no stop words; all of them where nothing else is left (``to be or not to be``)."""
    found = words(text)
    return [word for word in found if word not in STOP_WORDS] or found


def singular(word: str) -> str:
    """The word without a plural's ending: the S stemmer (Harman 1991, "How effective is suffixing?").

    >>> singular("queries"), singular("classes"), singular("status")
    ('query', 'classe', 'status')
    """
    if len(word) > 3 and word.endswith("s"):
        if word.endswith("ies") and word[-4] not in "ea":
            return word[:-3] + "y"
        if word.endswith("es") and word[-3] not in "aeo":
            return word[:-1]
        if word[-2] not in "us":
            return word[:-1]
    return word


def kin(one: str, other: str) -> bool:
    """Whether two words may well mean related things: the same stem, one short for the other, or spelt alike.

    A stem is what both begin with: at least four letters and two thirds of the shorter word. It is generous on purpose:
    a line kept in error costs less than a good one lost.

    >>> kin("auth", "authentication"), kin("configure", "configuration"), kin("kuberentes", "kubernetes")
    (True, True, True)
    >>> kin("auth", "config"), kin("transformer", "transport")
    (False, False)
    """
    if one == other or singular(one) == singular(other):
        return True
    if _UNSPACED.search(one) and _UNSPACED.search(other):
        return bool(_grams(one, 2) & _grams(other, 2))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    shorter = min(len(one), len(other))
    if shared >= _SHARED_BEGINNING and 3 * shared >= 2 * shorter:
        return True
    if shared == shorter >= _SHORTEST_BEGINNING:
        return True
    first, second = _grams(one, 3), _grams(other, 3)
    return shorter > _SHARED_BEGINNING and 2 * len(first & second) >= _ALIKE * (len(first) + len(second))


def _grams(word: str, size: int) -> set[str]:
    return {word[start : start + size] for start in range(max(1, len(word) - size + 1))}


def related(text: str, anchors: Collection[str], anchor_texts: Iterable[str] = ()) -> bool:
    """Whether a text has a content word that is kin to one of ``anchors``, or an acronym joins it to an anchor text."""
    mine = set(content_words(text))
    if mine & set(anchors) or any(kin(word, anchor) for word in mine for anchor in anchors):
        return True
    return any(_acronym(text, other) or _acronym(other, text) for other in anchor_texts)


def _acronym(short: str, long: str) -> bool:
    """Whether a word of ``short`` is made of the initials of words in a row of ``long`` (stop words in it or not)."""
    full = words(long)
    initials = {"".join(word[0] for word in full), "".join(word[0] for word in full if word not in STOP_WORDS)}
    candidates = (word for word in words(short) if len(word) in _ACRONYM and word not in STOP_WORDS)
    return any(singular(word) in letters or word in letters for word in candidates for letters in initials)


# --- names -----------------------------------------------------------------------------------------------------------


def named_entities(query: str, written: Sequence[str] = ()) -> list[str]:
    """Words of a query that are names and must not get lost, as typed: ``GPT-4``, ``C++``, ``node.js``, ``Kubernetes``.

    A word of mixed case, in capitals, or with letters and digits is one by its shape. A word that is only capitalised
    is one inside the query; as the first word, or where every word is capitalised, only if one of the texts ``written``
    for the query capitalises it in the middle of a sentence. Words after a minus sign are none.

    >>> named_entities("How does SWE-bench score Claude on -Java issues")
    ['SWE-bench', 'Claude']
    """
    tokens = [token.strip(_MARKS) for token in query.split() if not _EXCLUDES.match(token)]
    tokens = [token for token in tokens if any(letter.isalnum() for letter in token)]
    with_letters = [token for token in tokens if any(letter.isalpha() for letter in token)]
    content = [token for token in with_letters if token.casefold() not in STOP_WORDS]
    shouted = len(with_letters) > 2 and all(token.isupper() for token in with_letters)
    titled = len(content) > 1 and all(token[0].isupper() for token in content)
    found: dict[str, None] = {}
    for position, token in enumerate(tokens):
        if token in _OPERATORS or (token.casefold() in STOP_WORDS and (shouted or not _is_shaped(token))):
            continue
        if shouted:
            named = not token.isalpha() and _is_shaped(token.casefold())
        elif position and not titled:
            named = token[0].isupper() or _is_shaped(token)
        else:
            named = _is_shaped(token) or (token[0].isupper() and _is_written(token, written))
        if named:
            found[token] = None
    return list(found)


def _is_shaped(word: str) -> bool:
    """Whether a word is a name by its looks: capitals inside, digits among letters, signs of code."""
    if _COMMON_SHAPE.fullmatch(word) or not any(letter.isalpha() for letter in word):
        return False
    inner_capital = any(before.isalpha() and letter.isupper() for before, letter in pairwise(word))
    return inner_capital or any(letter.isdigit() for letter in word) or bool(_SIGNS.search(word))


def _is_written(word: str, texts: Iterable[str]) -> bool:
    """Whether a text has the word with its capital in the middle of a sentence."""
    pattern = re.compile(rf"[a-z0-9,;] {re.escape(word)}(?!\w)")
    return any(pattern.search(text) for text in texts)


def keywords(query: str, entities: Collection[str]) -> str:
    """The words of a query that a keyword search is made of: its names, and of the rest the first few content words.

    >>> keywords("how do I fine tune GPT-4 for my support tickets?", ["GPT-4"])
    'fine tune GPT-4 support tickets'
    """
    tokens = [token.strip(_MARKS) for token in query.split() if not _EXCLUDES.match(token)]
    tokens = [token for token in tokens if words(token)]
    content = [token for token in tokens if token in entities or not STOP_WORDS.issuperset(words(token))] or tokens
    others = [token for token in content if token not in entities]
    chosen = {*entities, *others[: max(0, _MOST_KEYWORDS - len(entities))]}
    return " ".join(token for token in dict.fromkeys(content) if token in chosen)


def holds(text: str, name: str) -> bool:
    """Whether a text holds a name, whatever the case, hyphens, spaces, dots and plural.

    >>> holds("gpt 4 fine tuning", "GPT-4"), holds("large language model", "LLMs"), holds("llm agents", "LLMs")
    (True, False, True)
    """
    wanted, bare = _bare(name), _bare(text)
    return wanted in bare or (len(wanted) > 3 and wanted.endswith("s") and wanted[:-1] in bare)


def _bare(text: str) -> str:
    return _JOINTS.sub("", text.casefold())
