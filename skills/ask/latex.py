"""LaTeX mathematics into small trees, for comparison only: nothing is evaluated, no name is looked up, all is bounded.

``sympy.parsing.latex`` is not used: its lark grammar refuses ``x_{t+1}``, ``\\mathcal{L}``, ``\\mathrm{softmax}`` and
``p(y|x)``, which papers are full of, and evaluates what it reads, so that ``9^{9^{9^9}}`` never returns.

A tree is a tuple: ``("num", "0.5")``, ``("sym", "x_{t+1}")``, ``("add", …)``, ``("mul", …)``, ``("pow", base, exponent)``,
``("call", name, …)``, ``("rel", "=", left, right)``. A minus is a product with -1, a fraction one with a power of -1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

Tree = tuple[Any, ...]
LONGEST = 600
"""Characters of an equation; longer ones are compared as text."""
DEEPEST = 30
MOST_NODES = 300

MATH = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|\\begin\{(?:equation|displaymath)\*?\}(.+?)\\end\{(?:equation|displaymath)\*?\}"
    r"|(?<![\\$])\$(?![\s$])([^$]{0,598}?[^\s\\$])\$(?!\d)",
    re.DOTALL,
)
"""Mathematics in running text; by Pandoc's rule ``$5 and $6`` is money."""
_SIGNS = """
≤ \\le \\leq \\leqslant; ≥ \\ge \\geq \\geqslant; < \\lt; > \\gt; ≈ \\approx; ≠ \\neq \\ne; ∝ \\propto; ∈ \\in; ∼ \\sim
→ \\to \\rightarrow; ≡ \\equiv; = \\triangleq \\coloneqq :=; | \\mid |; ‖ \\|
"""
RELATIONS = {sign: sign for sign in "=<>≤≥≈≠∝∈∼→≡"} | {
    form: forms[0] for line in _SIGNS.strip().split("\n") for forms in map(str.split, line.split(";")) for form in forms[1:]
}
"""Signs of relations, and the commands that write them."""
_TOKEN = re.compile(r"\s+|\\[A-Za-z]+\*?|\\.|:=|\d+(?:\.\d+)?|\.\d+|.", re.DOTALL)
_SPACES = frozenset(
    "\\, \\; \\: \\! \\  \\quad \\qquad \\left \\right \\big \\Big \\bigg \\Bigg \\bigl \\bigr \\Bigl \\Bigr \\displaystyle"
    " \\limits \\nolimits \\nonumber \\notag ~ &".split(" ")
)
_STYLES = frozenset(
    "\\mathrm \\text \\textrm \\textbf \\textit \\mathbf \\mathit \\mathsf \\mathtt \\operatorname \\operatorname* \\mbox"
    " \\boldsymbol \\bm \\mathcal \\mathbb \\mathfrak \\mathscr \\hat \\widehat \\bar \\overline \\tilde \\widetilde \\vec"
    " \\dot \\ddot \\check \\underline".split()
)
_PLAIN = frozenset(
    "\\mathrm \\text \\textrm \\textbf \\textit \\mathit \\mathsf \\mathtt \\operatorname \\operatorname* \\mbox".split()
)
"""Styles that say nothing of what a symbol means."""
_FUNCTIONS = frozenset(
    "\\log \\ln \\exp \\sin \\cos \\tan \\tanh \\sinh \\cosh \\max \\min \\arg \\argmax \\argmin \\sup \\inf \\det \\dim"
    " \\Pr \\lim \\gcd".split()
)
_BIG = frozenset("\\sum \\prod \\int \\oint \\bigcup \\bigcap \\iint".split())
_TIMES = frozenset("* · × ∗ \\cdot \\times \\ast".split())
_OPEN = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_BARS = {"|", "\\|", "\\lvert", "\\rvert", "\\lVert", "\\rVert"}
_ENDS = frozenset(") ] } \\} \\rangle \\rfloor \\rceil , ; . + - − ± \\pm".split()) | set(RELATIONS)


class Unreadable(ValueError):
    """Not mathematics of the kind that is read here."""


def formulas(text: str) -> list[str]:
    """The LaTeX between ``$…$``, ``$$…$$``, ``\\(…\\)``, ``\\[…\\]`` and of equation environments, in order.

    >>> formulas("With $a = b$ it costs $5 and $6.")
    ['a = b']
    """
    return [next(group for group in match.groups() if group is not None).strip() for match in MATH.finditer(text)]


def parse(latex: str, *, calls: bool = True) -> Tree:
    """The tree of a formula; ``a(b)`` is a call, or a product where ``calls`` is False. Raises Unreadable.

    >>> parse("E = mc^2")
    ('rel', '=', ('sym', 'E'), ('mul', ('sym', 'm'), ('pow', ('sym', 'c'), ('num', '2'))))
    """
    if len(latex) > LONGEST:
        raise Unreadable("too long")
    tokens = [token for token in _TOKEN.findall(latex) if not token.isspace() and token not in _SPACES]
    while tokens and tokens[-1] in (".", ",", ";"):
        tokens.pop()
    parser = _Parser(tokens, calls)
    tree = parser.relation()
    if parser.at < len(tokens):
        raise Unreadable(f"unexpected {tokens[parser.at]}")
    return tree


@dataclass
class _Parser:
    """Recursive descent over tokens."""

    tokens: list[str]
    calls: bool
    at: int = 0
    depth: int = 0
    nodes: int = 0
    bars: int = 0
    """Absolute values that are open: the next bar closes one."""

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        if self.next != token:
            self.fail(f"{token} is missing")
        self.at += 1

    def fail(self, why: str) -> NoReturn:
        raise Unreadable(why)

    def node(self, *parts: Any) -> Tree:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            self.fail("too large")
        return parts

    def relation(self) -> Tree:
        """Sides with relations between them, left to right, below a limit of depth."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail("too deep")
        tree = self.sum()
        while self.next in RELATIONS and not (self.next in _BARS and self.bars):
            sign = RELATIONS[self.take()]
            tree = self.node("rel", sign, tree, self.sum())
        self.depth -= 1
        return tree

    def sum(self) -> Tree:
        terms = []
        sign = ""
        if self.next in ("+", "-", "−"):
            sign = self.take()
        terms.append(self._signed(sign, self.product()))
        while self.next in ("+", "-", "−", "±", "\\pm"):
            sign = self.take()
            terms.append(self._signed(sign, self.product()))
        return terms[0] if len(terms) == 1 else self.node("add", *terms)

    def _signed(self, sign: str, term: Tree) -> Tree:
        if sign in ("-", "−"):
            return self.node("mul", ("num", "-1"), term)
        return self.node("call", "±", term) if sign in ("±", "\\pm") else term

    def product(self) -> Tree:
        factors = [self.power()]
        while self.next and not self._ends():
            if self.next in _TIMES:
                self.take()
                factors.append(self._maybe_signed())
            elif self.next in ("/", "\\div", "÷"):
                self.take()
                factors.append(self.node("pow", self._maybe_signed(), ("num", "-1")))
            else:
                factors.append(self.power())
        return factors[0] if len(factors) == 1 else self.node("mul", *factors)

    def _maybe_signed(self) -> Tree:
        sign = self.take() if self.next in ("-", "−", "+") else ""
        return self._signed(sign, self.power())

    def _ends(self) -> bool:
        return self.next in _ENDS or self.next in _BARS

    def power(self) -> Tree:
        tree = self.atom()
        while self.next in ("^", "'", "!", "\\%", "%"):
            mark = self.take()
            tree = self.node("pow", tree, self.argument()) if mark == "^" else self.node("call", mark, tree)
        return tree

    def argument(self) -> Tree:
        """What follows ``^`` or a command: a group in braces, or one token."""
        if self.next == "{":
            return self.group()
        if self.next in ("\\top", "\\prime", "*", "+", "-", "−", "\\dagger", "\\intercal"):
            return self.node("sym", self.take())
        return self.atom(single=True)

    def group(self) -> Tree:
        self.expect("{")
        if self.next in ("*", "+", "-", "−", "\\top", "\\prime") and self.tokens[self.at + 1 : self.at + 2] == ["}"]:
            tree = self.node("sym", self.take())
        else:
            tree = self.listed("}")
        self.expect("}")
        return tree

    def listed(self, end: str) -> Tree:
        """One value, or several with commas between them, up to ``end``."""
        bars, self.bars = self.bars, 0
        values = [self.relation()]
        while self.next in (",", ";"):
            self.take()
            values.append(self.relation())
        self.bars = bars
        if self.next != end:
            self.fail(f"{end} is missing")
        return values[0] if len(values) == 1 else self.node("call", ",", *values)

    def atom(self, *, single: bool = False) -> Tree:
        token = self.next
        if not token:
            self.fail("ends too soon")
        if token == "{":
            return self.group()
        if token in _OPEN:
            self.take()
            tree = self.listed(_OPEN[token])
            self.expect(_OPEN[token])
            return tree if token in "([" else self.node("call", token, tree)
        if token in _BARS:
            return self._absolute()
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            value = self.take()
            return self._digit(value) if single and len(value) > 1 else self.node("num", value)
        if token in ("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"):
            self.take()
            top, bottom = self.argument(), self.argument()
            return self.node("mul", top, self.node("pow", bottom, ("num", "-1")))
        if token == "\\sqrt":
            return self._root()
        if token in _BIG:
            return self._big()
        return self._symbol(single)

    def _digit(self, value: str) -> Tree:
        """The first digit of ``^23``, which LaTeX raises alone."""
        self.tokens.insert(self.at, value[1:])
        return self.node("num", value[0])

    def _absolute(self) -> Tree:
        opening = self.take()
        self.bars += 1
        tree = self.relation()
        self.bars -= 1
        if self.next not in _BARS:
            self.fail("a bar is missing")
        self.take()
        tree = self.node("call", "norm" if "V" in opening or opening == "\\|" else "abs", tree)
        return self.node("call", "sub", tree, ("sym", self._subscript())) if self.next == "_" else tree

    def _root(self) -> Tree:
        self.take()
        degree: Tree = ("num", "2")
        if self.next == "[":
            self.take()
            degree = self.listed("]")
            self.expect("]")
        return self.node("pow", self.argument(), self.node("pow", degree, ("num", "-1")))

    def _big(self) -> Tree:
        """A sum or an integral: its limits, and what it goes over up to the next plus or relation."""
        name = self.take()
        low: Tree = ("sym", "")
        high: Tree = ("sym", "")
        while self.next in ("_", "^"):
            if self.take() == "_":
                low = self.argument()
            else:
                high = self.argument()
        return self.node("call", name, low, high, self.product())

    def _symbol(self, single: bool) -> Tree:
        token = self.take()
        if token in _STYLES:
            inner = self._raw()
            name = inner if token in _PLAIN else f"{token}{{{inner}}}"
        elif token.startswith("\\") and not token[1:].rstrip("*").isalpha():
            self.fail(f"unexpected {token}")
        elif token in ("\\begin", "\\end", "\\\\"):
            self.fail(f"{token} is not read")
        elif not token.startswith("\\") and not (token.isalpha() or token in "∇∂∞…ℓ∅"):
            self.fail(f"unexpected {token}")
        else:
            name = token
        if single:
            return self.node("sym", name)
        if self.next == "_":
            name += f"_{self._subscript()}"
        primes = 0
        while self.next == "'":
            self.take()
            primes += 1
        name += "'" * primes
        function = token in _FUNCTIONS or (token in _STYLES and len(name) > 1 and name.isalpha())
        if self.next in ("(", "[") and (self.calls or function):
            return self._called(name)
        if token in _FUNCTIONS:
            power = self._exponent()
            tree = self._called(name) if self.next in ("(", "[") else self.node("call", name, self.power())
            return self.node("pow", tree, power) if power else tree
        return self.node("sym", name)

    def _exponent(self) -> Tree | None:
        if self.next != "^":
            return None
        self.take()
        return self.argument()

    def _called(self, name: str) -> Tree:
        closing = _OPEN[self.take()]
        if self.next == closing:
            self.take()
            return self.node("call", name)
        tree = self.listed(closing)
        self.expect(closing)
        return self.node("call", name, *(tree[2:] if tree[:2] == ("call", ",") else (tree,)))

    def _subscript(self) -> str:
        self.expect("_")
        return self._raw()

    def _raw(self) -> str:
        """A group in braces, or one token, as text."""
        if self.next != "{":
            if not self.next:
                self.fail("ends too soon")
            return self.take()
        parts, open_ = list[str](), 0
        while self.next:
            token = self.take()
            open_ += (token == "{") - (token == "}")
            if not open_:
                return "".join(part for part in parts[1:] if part not in _STYLES and part not in "{}")
            parts.append(token)
        raise Unreadable("} is missing")
