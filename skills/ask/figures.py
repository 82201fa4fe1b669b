"""The numbers of a sentence with their units, and whether a text gives them.

``1,000`` is 1000, ``5%`` is 5 percent, ``.5`` is 0.5, ``2 million`` is 2,000,000 and ``seven`` is 7. ``GPT-4`` and ``F1``
hold no number: they are names, and compared as such.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

_UNITS = {
    canonical: forms.split("|")
    for canonical, forms in {
        "%": "%|percent|per cent|pct",
        "pp": "percentage points|percentage point|pp|% points",
        "ns": "ns|nanoseconds|nanosecond",
        "µs": "µs|us|microseconds|microsecond",
        "ms": "ms|msec|milliseconds|millisecond",
        "s": "s|sec|secs|seconds|second",
        "min": "min|mins|minutes|minute",
        "h": "h|hr|hrs|hours|hour",
        "d": "days|day",
        "wk": "weeks|week|wks|wk",
        "mo": "months|month",
        "yr": "years|year|yrs|yr",
        "nm": "nm|nanometers|nanometres|nanometer|nanometre",
        "µm": "µm|um|micrometers|micrometres|microns|micron",
        "mm": "mm|millimeters|millimetres|millimeter|millimetre",
        "cm": "cm|centimeters|centimetres|centimeter|centimetre",
        "m": "m|meters|metres|meter|metre",
        "km": "km|kilometers|kilometres|kilometer|kilometre",
        "ng": "ng|nanograms|nanogram",
        "µg": "µg|ug|mcg|micrograms|microgram",
        "mg": "mg|milligrams|milligram",
        "g": "g|grams|gram",
        "kg": "kg|kilograms|kilogram",
        "t": "tonnes|tonne|tons|ton",
        "µl": "µl|ul|microliters|microlitres|microliter|microlitre",
        "ml": "ml|milliliters|millilitres|milliliter|millilitre",
        "l": "l|liters|litres|liter|litre",
        "kb": "kb|kib|kilobytes|kilobyte",
        "mb": "mb|mib|megabytes|megabyte",
        "gb": "gb|gib|gigabytes|gigabyte",
        "tb": "tb|tib|terabytes|terabyte",
        "hz": "hz|hertz",
        "khz": "khz|kilohertz",
        "mhz": "mhz|megahertz",
        "ghz": "ghz|gigahertz",
        "°c": "°c|degrees celsius|degree celsius",
        "°f": "°f|degrees fahrenheit|degree fahrenheit",
        "k": "kelvin",
        "°": "°|degrees|degree",
        "w": "w|watts|watt",
        "kw": "kw|kilowatts|kilowatt",
        "v": "v|volts|volt",
        "mv": "mv|millivolts|millivolt",
        "j": "j|joules|joule",
        "kj": "kj|kilojoules|kilojoule",
        "ev": "ev|electronvolts|electronvolt",
        "kcal": "kcal|kilocalories",
        "pa": "pa|pascals|pascal",
        "mmhg": "mmhg|mm hg",
        "mol": "mol|moles|mole",
        "mmol": "mmol|millimoles|millimole",
        "x": "x|×|times",
        "db": "db|decibels|decibel",
    }.items()
}
_CANONICAL = {form: canonical for canonical, forms in _UNITS.items() for form in forms}
_UNIT = re.compile(
    r"\s{0,2}-?(" + "|".join(map(re.escape, sorted(_CANONICAL, key=lambda form: -len(form)))) + r")(?![^\W\d_])",
    re.IGNORECASE,
)
_LETTERS = frozenset("shmglLtxKWVJ")
"""Units of one letter, as they are written."""
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "K": 10**3, "k": 10**3}
_SCALES |= {"M": 10**6, "B": 10**9, "T": 10**12}
_SCALE = re.compile(r"(?:[ \t]?(thousand|million|billion|trillion)|([KkMBT]))(?![^\W_])")
_NUMBER = re.compile(
    r"(?<![\d.,])(?P<value>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE](?P<power>[-+]?\d{1,3})(?![\w]))?"
)
_NAME = re.compile(r"(?<![^\W\d_])(?<![^\W\d_][-_/.])[^\W\d_]++(?:[-_/.][^\W\d_]++)*+[-_/.]?\d(?:[\w.\-]*\w)?")
_ORDER = re.compile(r"(?:^|\s)\(?(?:\d{1,2}|[ivx]{1,4})\)(?=\s)")
_HEDGE = re.compile(
    r"\b(?:about|around|roughly|nearly|almost|approximately|over|under|some|more than|less than)\b|[~≈]", re.I
)
_SPELT = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
        " eighteen nineteen".split(),
        range(20),
        strict=True,
    )
) | dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True))
_TENS = "|".join(word for word, value in _SPELT.items() if value >= 20)
_ONES = "|".join(word for word, value in _SPELT.items() if 0 < value < 10)
_SPELLED = re.compile(rf"\b(?:(?P<tens>{_TENS})[- ](?P<ones>{_ONES})|(?P<word>{'|'.join(_SPELT)}))\b", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number of a text."""

    value: Decimal
    unit: str
    """Its canonical name, "" where there is none that is known."""
    shown: str
    """As written, with its unit."""
    next: str = ""
    """The word after a number that is spelt, in lower case."""
    before: str = ""
    """The word before one in digits: ``GPT 4`` may be ``GPT-4``."""
    dash: bool = False
    """A dash stands right before it …"""
    negative: bool = False
    """… and can be nothing but a minus."""


def numbers(text: str) -> list[Number]:
    """The numbers of a text in digits, in order; those in names and list marks (``(2)``) are left out.

    >>> [(str(n.value), n.unit) for n in numbers("GPT-4 gains 12.5 percent on 1,200 tasks in .5 s")]
    [('12.5', '%'), ('1200', ''), ('0.5', 's')]
    """
    text = _prepared(text)
    hidden = [match.span() for pattern in (_NAME, _ORDER) for match in pattern.finditer(text)]
    found = []
    for match in _NUMBER.finditer(text):
        if not any(start <= match.start() < end for start, end in hidden):
            found.append(_read(text, match))
    return found


def spelt(text: str) -> list[Number]:
    """The numbers of a text in words; ``twenty-three`` is 23.

    >>> [(str(n.value), n.next) for n in spelt("Twenty-three raters, two tasks")]
    [('23', 'raters'), ('2', 'tasks')]
    """
    text = _prepared(text)
    found = []
    for match in _SPELLED.finditer(text):
        value = (
            _SPELT[match["word"].lower()]
            if match["word"]
            else _SPELT[match["tens"].lower()] + _SPELT[match["ones"].lower()]
        )
        scale = _SCALE.match(text, match.end())
        after = re.match(r"[\s-]+([^\W\d_]+)", text[match.end() :])
        found.append(
            Number(
                Decimal(value * (_SCALES[scale[1]] if scale and scale[1] else 1)),
                _unit(text, match.end())[0],
                match[0],
                next=after[1].lower() if after else "",
            )
        )
    return found


def names(text: str) -> list[str]:
    """The names of a text that have a digit in them.

    >>> names("GPT-4 and Llama-2-7B score 71.2 F1 on COVID-19 data")
    ['GPT-4', 'Llama-2-7B', 'F1', 'COVID-19']
    """
    return [match[0] for match in _NAME.finditer(_prepared(text))]


def missing(claim: str, evidence: Sequence[str]) -> list[str]:
    """The numbers, units and numbered names of a claim that none of the texts gives, as written, each once.

    A number in words is only missing where the same thing is counted differently: it may be the writer's own count.
    """
    text = "\n".join(evidence)
    there = list(dict.fromkeys([*numbers(text), *spelt(text)]))
    hedged, squeezed = _HEDGE.search(claim) is not None, _squeezed(text)
    lacking = [
        one.shown
        for one in numbers(claim)
        if not any(_same(one, other, text, hedged=hedged) for other in there)
        and not (one.before and _named(f"{one.before} {one.shown}", squeezed))
    ]
    lacking += [one.shown for one in spelt(claim) if _contradicted(one, there, text)]
    lacking += [name for name in names(claim) if not _named(name, squeezed)]
    return list(dict.fromkeys(lacking))


def _prepared(text: str) -> str:
    """Dashes made plain, LaTeX's percent and thin spaces taken off, superscripts kept apart from what they stand on."""
    text = "".join(f"^{unicodedata.digit(c)}" if c in "⁰¹²³⁴⁵⁶⁷⁸⁹" else c for c in text)
    text = re.sub(r"[‐‑‒–—−]", "-", text).replace("\\%", "%").replace("\\,", "").replace("{,}", ",").replace("μ", "µ")
    return re.sub(r"(?<=\d)[\u2009\u202f\u00a0 ](?=\d{3}(?!\d))", ",", text)


def _read(text: str, match: re.Match[str]) -> Number:
    value = Decimal(match["value"].replace(",", ""))
    end = match.end()
    if match["power"]:
        value = value.scaleb(int(match["power"]))
    if (scale := _SCALE.match(text, end)) is not None:
        value *= _SCALES[scale[1] or scale[2]]
        end = scale.end()
    unit, end = _unit(text, end)
    before = text[max(0, match.start() - 40) : match.start()]
    dash = before.endswith("-")
    word = re.search(r"([^\W\d_]+)[ ]$", before)
    return Number(
        value,
        unit,
        text[match.start() : end].strip(),
        before=word[1] if word else "",
        dash=dash,
        negative=dash and not before[-2:-1].isalnum(),
    )


def _unit(text: str, at: int) -> tuple[str, int]:
    """The canonical unit that stands at a place of a text, "" for none, and where it ends."""
    match = _UNIT.match(text, at)
    if match is None or (len(match[1]) == 1 and match[1].isalpha() and match[1] not in _LETTERS):
        return "", at
    return _CANONICAL[match[1].lower()], match.end()


def _same(one: Number, other: Number, text: str, *, hedged: bool) -> bool:
    if one.negative and not other.dash:
        return False
    if one.value == other.value or (hedged and _rounded(one.value, other.value)):
        if not one.unit or one.unit == other.unit:
            return True
        # a table or a list says its unit once
        return not other.unit and any(_unit_stands(form, text) for form in _UNITS[one.unit])
    shares = {one.unit, other.unit}
    if shares == {"%", ""}:  # 5% is 0.05
        share, part = (one, other) if one.unit else (other, one)
        return part.value <= 1 and share.value == part.value * 100
    return False


def _rounded(value: Decimal, exact: Decimal) -> bool:
    """Whether ``value`` is what ``exact`` comes to with as many digits: 71 for 71.3, 1,000 for 1,034."""
    try:
        digits = value.normalize().as_tuple().exponent
        return isinstance(digits, int) and value == exact.quantize(Decimal(1).scaleb(digits))
    except InvalidOperation:
        return False


def _unit_stands(form: str, text: str) -> bool:
    return re.search(rf"(?<![^\W\d_]){re.escape(form)}(?![^\W\d_])", text, re.IGNORECASE) is not None


def _contradicted(one: Number, there: Sequence[Number], text: str) -> bool:
    """Whether a number in words stands where the texts have another one before the same word."""
    if one.value < 2 or not one.next or any(one.value == other.value for other in there):
        return False
    return any(_counted(text, one.next))


def _counted(text: str, word: str) -> Iterator[str]:
    """Numbers of a text that stand right before ``word``, or its singular or plural."""
    stem = re.escape(word.removesuffix("s"))
    spelled = "|".join(_SPELT)
    for match in re.finditer(rf"\b(\d+|{spelled})[\s-]+{stem}s?\b", text, re.IGNORECASE):
        yield match[1]


def _squeezed(text: str) -> str:
    """Letters and digits only, a mark where a word or number ends."""
    return " ".join(re.findall(r"[^\W_]+", _prepared(text).casefold()))


def _named(name: str, squeezed: str) -> bool:
    """Whether a text has a name, hyphens and spaces in it left aside: ``GPT4`` is ``GPT-4``, ``top 5`` is ``top-5``."""
    parts = re.findall(r"[^\W\d_]+|\d+", name.casefold())
    return re.search(r"(?<![^\W_])" + r"\s?".join(map(re.escape, parts)) + r"(?!\d)", squeezed) is not None
