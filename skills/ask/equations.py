"""Equations of an answer against those of its evidence: the same up to algebra and to the renaming of symbols.

Where sympy is installed, both are read into trees (``latex.py``), expanded and compared; an equation in ``E = mc^2`` may be
rearranged, and a symbol may be called otherwise, unless the evidence uses that name for something else. Without sympy, or
where an equation cannot be read, the texts are compared without their markup.

The text of a PDF has lost its fractions and superscripts: where no LaTeX stands in the evidence, an equation that its
plain text does not have is only said to be unchecked.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any

from skills.ask import figures
from skills.ask.latex import MATH, RELATIONS, Tree, Unreadable, formulas, parse

MOST_TERMS = 400
"""Terms that expanding an equation may come to; a larger one is compared as it stands."""
MOST_COMPARISONS = 200
"""Of two expressions, for one equation of an answer: it bounds the renamings that are tried."""
LARGEST_POWER = 8
"""Numbers are raised to no more."""
_OPERATOR = re.compile(
    r"[=<>≤≥≈≠∝+\-−/^*·×∑∏∫]|\\(?:[dt]?frac|sum|prod|int|sqrt|cdot|times|leq?|geq?|approx|propto|neq?|to|in)(?![a-zA-Z])"
)
_DRESS = re.compile(
    r"\\(?:mathrm|text(?:rm|bf|it)?|math(?:bf|it|sf|cal|bb)|operatorname\*?|boldsymbol|bm|left|right|displaystyle|limits"
    r"|q?quad|hat|widehat|bar|tilde|vec|overline|cdot|times|ast)(?![a-zA-Z])|\\[,;:! ]"
)
_VALUE = re.compile(r"(?P<name>[^\W\d][\w',]{0,19})[=<>≤≥≈](?P<value>-?\d[\d.,]*%?)")
_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class Findings:
    """What became of the equations of a text."""

    mismatched: tuple[str, ...] = ()
    """Those that none of the evidence's equations is."""
    unchecked: tuple[str, ...] = ()
    """Those that plain text without LaTeX can neither confirm nor refute."""
    by_text: bool = False
    """Whether sympy was missing, so that only texts were compared."""


def available() -> bool:
    """Whether sympy is installed."""
    return importlib.util.find_spec("sympy") is not None


def without(text: str) -> str:
    """A text without its equations; mathematics that is mere numbers stays.

    >>> without(r"With $x_1 = \\frac{a}{2}$ it gains $5\\%$.")
    'With  it gains 5\\\\%.'
    """

    def left(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group is not None)
        return " " if re.search(r"[_^{]|\\(?!%)", inner) else inner

    return MATH.sub(left, text).replace("   ", "  ")


def check(text: str, evidence: Sequence[str]) -> Findings:
    """Every equation of a text (a formula with an operator) against those of the evidence's texts."""
    wanted = [formula for formula in formulas(text) if _OPERATOR.search(formula)]
    if not wanted:
        return Findings()
    whole = "\n".join(evidence)
    there = formulas(whole)
    plain, by_text = _even(MATH.sub(" ", whole)), not available()
    mismatched, unchecked = list[str](), list[str]()
    for formula in wanted:
        if _stands(flat(formula), plain) or any(
            flat(formula) == flat(other) and _same_marks(formula, other) for other in there
        ):
            continue
        if _is_value(formula, there, evidence) or (not by_text and _matches(formula, there)):
            continue
        (mismatched if there else unchecked).append(formula)
    return Findings(tuple(mismatched), tuple(unchecked), by_text)


def _is_value(formula: str, there: Sequence[str], evidence: Sequence[str]) -> bool:
    """Whether a formula only gives a symbol a number that the evidence has, and no formula gives it another: ``n = 24``."""
    match = _VALUE.fullmatch(flat(formula))
    if match is None or figures.missing(match["value"], evidence):
        return False
    return not any((other := _VALUE.fullmatch(flat(one))) and other["name"] == match["name"] for one in there)


def flat(formula: str) -> str:
    """A formula as plain text has it: letters, digits and signs, without markup, white space and signs of multiplication.

    >>> flat(r"x_{t+1} = x_t - \\eta \\cdot \\frac{a}{b}")
    'xt+1=xt-ηa/b'
    """
    text = formula
    for _ in range(4):
        text = _FRACTION.sub(r"\1/\2", text)
    text = _DRESS.sub("", text)
    for command, sign in RELATIONS.items():
        if command.startswith("\\"):
            text = re.sub(re.escape(command) + r"(?![a-zA-Z])", sign, text)
    text = re.sub(r"\\([A-Za-z]+)", lambda match: _greek(match[1]), text)
    return re.sub(r"[\s{}_^\\$*·×∗]", "", _even(text)).rstrip(".,;:")


def _even(text: str) -> str:
    """Mathematical letters and raised digits as plain ones, all dashes alike."""
    return re.sub(r"[‐‑‒–—−]", "-", unicodedata.normalize("NFKC", text))


def _greek(name: str) -> str:
    """The letter that a command writes, else its name."""
    kind = "CAPITAL" if name[:1].isupper() else "SMALL"
    try:
        return unicodedata.lookup(
            f"GREEK {kind} LETTER {'LAMDA' if name.lower() == 'lambda' else name.removeprefix('var').upper()}"
        )
    except KeyError:
        return {"nabla": "∇", "partial": "∂", "infty": "∞", "ell": "ℓ", "sum": "∑", "prod": "∏", "int": "∫"}.get(name, name)


def _same_marks(one: str, other: str) -> bool:
    """Whether two formulas raise and lower as often: ``x^2`` is not ``x_2``."""
    return all(one.count(mark) == other.count(mark) for mark in "^_")


def _stands(wanted: str, text: str) -> bool:
    """Whether plain text has a flattened formula, and not as a part of a longer name or number."""
    pattern = r"[\s*·×∗]*".join(map(re.escape, wanted))
    return bool(wanted) and re.search(rf"(?<![^\W_]){pattern}(?![^\W_])(?!\.\d)", text) is not None


def _matches(formula: str, there: Iterable[str]) -> bool:
    """Whether a formula is one of these, or a side or part of one."""
    budget = iter(range(MOST_COMPARISONS))
    for calls in (True, False):
        try:
            tree = parse(formula, calls=calls)
        except Unreadable:
            continue
        others = []
        for other in there:
            try:
                others.append(parse(other, calls=calls))
            except Unreadable:
                continue
        taken = frozenset(name for other in others for name in _names(other))
        if all(
            any(_equal(piece, candidate, taken, budget) for other in others for candidate in _parts(other))
            for piece in _links(tree)
        ):
            return True
    return False


def _links(tree: Tree) -> list[Tree]:
    """A chain ``a = b = c`` as its equations; anything else as it is."""
    sides, signs = _chain(tree)
    return [("rel", sign, *pair) for sign, pair in zip(signs, pairwise(sides), strict=True)] or [tree]


def _chain(tree: Tree) -> tuple[list[Tree], list[str]]:
    if tree[0] != "rel" or tree[1] == "|":
        return [tree], []
    sides, signs = _chain(tree[2])
    return [*sides, tree[3]], [*signs, tree[1]]


def _parts(tree: Tree) -> Iterator[Tree]:
    """What a formula of an answer may be of a formula of the evidence: each equation of a chain, or any part."""
    sides, signs = _chain(tree)
    if signs:
        if set(signs) == {"="}:  # in a = b = c any two are equal
            yield from (("rel", "=", one, other) for i, one in enumerate(sides) for other in sides[i + 1 :])
        else:
            yield from _links(tree)
    for side in sides:
        yield from _subtrees(side)


def _subtrees(tree: Tree) -> Iterator[Tree]:
    yield tree
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from _subtrees(part)


def _names(tree: Tree) -> frozenset[str]:
    """The symbols and functions of a tree."""
    if tree[0] == "sym":
        return frozenset((tree[1],))
    own = frozenset((tree[1],)) if tree[0] == "call" else frozenset()
    return own.union(*(_names(part) for part in tree[1:] if isinstance(part, tuple)))


def _symbols(tree: Tree) -> list[str]:
    """Its symbols, each once, in the order in which they stand."""
    if tree[0] == "sym":
        return [tree[1]]
    return list(dict.fromkeys(name for part in tree[1:] if isinstance(part, tuple) for name in _symbols(part)))


def _equal(one: Tree, other: Tree, taken: frozenset[str], budget: Iterator[int]) -> bool:
    """Whether two trees are the same up to algebra, with the symbols of ``one`` renamed where their names are free.

    ``budget`` gives a number for each comparison that may still be made.
    """
    if (one[0] == "rel") != (other[0] == "rel"):
        return False
    ours, theirs = set(_symbols(one)), set(_symbols(other))
    free = [name for name in _symbols(one) if name not in theirs]
    open_ = [name for name in _symbols(other) if name not in ours]
    if len(free) != len(open_) or any(name in taken for name in free):
        return False
    target = canonical(other)
    for renamed, _ in zip(permutations(open_), budget, strict=False):
        if _same(canonical(_renamed(one, dict(zip(free, renamed, strict=True)))), target):
            return True
    return False


def _renamed(tree: Tree, names: dict[str, str]) -> Tree:
    if not names:
        return tree
    if tree[0] == "sym":
        return ("sym", names.get(tree[1], tree[1]))
    return tuple(_renamed(part, names) if isinstance(part, tuple) else part for part in tree)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    if one[0] != other[0]:
        return False
    if one[0] == "=":  # both are what is left when one side is taken from the other
        return bool(one[1] == other[1] or one[1] == -other[1])
    return one == other


@lru_cache(maxsize=4096)
def canonical(tree: Tree) -> tuple[Any, ...]:
    """A tree as sympy expressions that are equal where the formulas are: the sign, then one or both sides.

    Of an equation only the numerator of its difference counts, so that it may be rearranged. ``>`` is turned to ``<``.
    """
    import sympy

    if tree[0] != "rel":
        return ("", _expanded(tree))
    sign, left, right = tree[1], tree[2], tree[3]
    if sign in (">", "≥"):
        sign, left, right = "<" if sign == ">" else "≤", right, left
    if sign == "=" and left[0] != "rel":
        difference = ("add", left, ("mul", ("num", "-1"), right))
        if _terms(difference) <= MOST_TERMS:
            numerator, _ = sympy.fraction(sympy.together(_sympy(difference)))
            if numerator.count_ops() <= MOST_TERMS:
                return ("=", sympy.expand(numerator))
        return ("=", _sympy(difference))
    return (sign, canonical(left) if left[0] == "rel" else _expanded(left), _expanded(right))


def _expanded(tree: Tree) -> Any:
    import sympy

    expression = _sympy(tree)
    return sympy.expand(expression) if _terms(tree) <= MOST_TERMS else expression


def _terms(tree: Tree) -> int:
    """An upper bound of the terms that expanding a tree comes to, cut off above ``MOST_TERMS``."""
    if tree[0] in ("num", "sym"):
        return 1
    parts = [_terms(part) for part in tree[1:] if isinstance(part, tuple)]
    if tree[0] == "pow":
        power = int(tree[2][1]) if tree[2][0] == "num" and tree[2][1].isdecimal() and len(tree[2][1]) < 3 else 1
        return min(parts[0] ** min(power, 10), MOST_TERMS + 1) if parts[0] > 1 else max(parts)
    total = 1 if tree[0] == "mul" else 0
    for part in parts:
        total = min(total * part if tree[0] == "mul" else total + part, MOST_TERMS + 1)
    return max(total, 1)


def _sympy(tree: Tree) -> Any:
    """The sympy expression of a tree. Names become plain symbols and undefined functions: none of sympy's own is called."""
    import sympy

    if tree[0] == "num":
        return sympy.Rational(tree[1])
    if tree[0] == "sym":
        return sympy.Symbol(tree[1])
    if tree[0] == "rel":
        return sympy.Function(f"rel {tree[1]}")(_sympy(tree[2]), _sympy(tree[3]))
    if tree[0] == "call":
        return sympy.Function(f"call {tree[1]}")(*map(_sympy, tree[2:]))
    parts = [_sympy(part) for part in tree[1:]]
    if tree[0] == "add":
        return sympy.Add(*parts)
    if tree[0] == "mul":
        return sympy.Mul(*parts)
    base, power = parts
    if base.is_number and power.is_number and not (power.is_integer and abs(power) <= LARGEST_POWER):
        return sympy.Function("call ^")(base, power)
    if (base.is_zero and power.is_negative) or (power.is_number and abs(power) > 10**6):
        return sympy.Function("call ^")(base, power)
    return sympy.Pow(base, power)
