"""What the headings of a paper are, where its references begin and end, and which sections describe methods."""

from __future__ import annotations

import re

SEPARATOR = " › "
"""Between the parts of a heading path, and between title, section and page."""
LONGEST_HEADING = 100
_NUMBER = re.compile(r"(?P<number>\d{1,2}(?:\.\d{1,2}){0,3}|[IVX]{1,4}|[A-H](?:\.\d{1,2}){0,3})(?P<dot>[.):]?)\s+(?=\S)")
_NAMES = re.compile(
    r"(?:abstract|summary|introduction|background|motivation|related works?|prior work|preliminaries|materials? and methods"
    r"|methods?|methodology|methods and materials|approach|experiments?|experimental (?:setup|results|design)"
    r"|implementation(?: details)?|evaluation|results?|results and discussion|findings|analysis|discussion|limitations?"
    r"|conclusions?|conclusions? and future work|discussion and conclusions?|future work|statement of need"
    r"|data(?: and code)? availability|funding|ethics statement|broader impact|acknowledge?ments?"
    r"|author contributions|conflicts? of interest|keywords|supplementary (?:materials?|information)"
    r"|references|bibliography|appendix|appendices)",
    re.IGNORECASE,
)
_REFERENCES = re.compile(
    r"(?:references(?: and notes| cited)?|bibliography|literature cited|works cited|literatur(?:verzeichnis)?|références)",
    re.IGNORECASE,
)
_AFTER_REFERENCES = re.compile(r"(?:appendi(?:x|ces)|supplement|annex|anhang|annexe)", re.IGNORECASE)
_METHODS = re.compile(
    r"\b(?:methods?|methodology|materials|approach|procedures?|protocols?|algorithms?|architectures?|implementations?"
    r"|experimental (?:setup|design)|training details|model description)\b",
    re.IGNORECASE,
)


def without_number(text: str) -> tuple[str, str]:
    """A heading without its number, and the number (``2.1``, ``IV``, ``A``); "" where it has none.

    >>> without_number("2.1 Data and code")
    ('Data and code', '2.1')
    >>> without_number("A good day")
    ('A good day', '')
    """
    match = _NUMBER.match(text)
    if match is None or (not match["dot"] and match["number"].isalpha() and not text[match.end()].isupper()):
        return text, ""
    return text[match.end() :], match["number"]


def depth(number: str) -> int:
    """How deep a section of this number lies: 1 for ``2`` and for a heading without a number, 2 for ``2.1``."""
    return number.count(".") + 1


def is_known(text: str) -> bool:
    """Whether a line is a heading that papers usually have, numbered or not (``Methods``, ``3. RESULTS``)."""
    name, _ = without_number(text.strip().strip("*_"))
    return bool(_NAMES.fullmatch(name.rstrip(" .:")))


def is_references(heading: str) -> bool:
    """Whether the list of references stands under this heading."""
    return bool(_REFERENCES.fullmatch(without_number(heading.strip())[0].rstrip(" .:")))


def ends_references(heading: str) -> bool:
    """Whether text goes on under this heading after the references (an appendix, a supplement)."""
    return bool(_AFTER_REFERENCES.match(without_number(heading.strip())[0]))


def is_methods(path: str) -> bool:
    """Whether a heading path leads to a section on methods, whose steps belong together.

    >>> is_methods("3 Methods › 3.2 Participants"), is_methods("4 Results")
    (True, False)
    """
    return bool(_METHODS.search(path))


class Outline:
    """The heading in force while a document is walked: headings go in, the path comes out."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self.in_references = False

    def enter(self, level: int, heading: str) -> None:
        """A heading of ``level`` (1 is the highest): it ends those of its own level and below."""
        heading = " ".join(heading.split())
        if self.in_references and not is_references(heading) and not ends_references(heading):
            top = self._path[0][0] if self._path else 1
            if level > top:  # inside the list: letters of the alphabet, kinds of sources
                return
        self._path = [*((depth, text) for depth, text in self._path if depth < level), (level, heading)]
        self.in_references = is_references(heading) or (self.in_references and level > self._path[0][0])

    @property
    def path(self) -> str:
        """``Methods › Data``; "" before the first heading."""
        return SEPARATOR.join(text for _, text in self._path)
