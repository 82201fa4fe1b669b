"""arXiv: ids and URLs, and the export API (Atom) at the rate that arXiv asks for."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.errors import InputError
from harness.readers.source import Record, Table
from harness.readers.text import shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

API = "https://export.arxiv.org/api/query"
PAUSE = 3.0
"""Seconds between two calls, as arXiv's terms of use ask."""
FIELDNAMES = ("arxiv_id", "title", "authors", "published", "categories", "doi", "journal_ref", "abstract")

_PAGE = 100
_MAX_BYTES = 32 * 1024 * 1024
_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_ARCHIVES = (
    "acc-phys|adap-org|alg-geom|ao-sci|astro-ph|atom-ph|bayes-an|chao-dyn|chem-ph|cmp-lg|comp-gas|cond-mat|cs|dg-ga|"
    "funct-an|gr-qc|hep-ex|hep-lat|hep-ph|hep-th|math|math-ph|mtrl-th|nlin|nucl-ex|nucl-th|patt-sol|physics|plasm-ph|"
    "q-alg|q-bio|quant-ph|solv-int|supr-con"
)
"""Archives of the ids before April 2007; any other word before a slash is a folder."""
_ID = rf"(?:\d\d(?:0[1-9]|1[0-2])\.\d{{4,5}}|(?:{_ARCHIVES})(?:\.[A-Z]{{2}})?/\d{{7}})(?:v[1-9]\d*)?"
_WRITTEN = re.compile(
    r"(?:arxiv:\s*|(?:https?://)?(?:www\.|export\.|browse\.)?arxiv\.org/(?:abs|pdf|html|format|e-print)/"
    rf"|(?:https?://)?(?:dx\.)?doi\.org/10\.48550/arxiv\.|10\.48550/arxiv\.)?({_ID})(?:\.pdf)?/?(?:[?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)
_LAST_CALL = [float("-inf")]
"""Time of the last call of this process, whichever client made it."""


def parse_id(text: str) -> str | None:
    """The arXiv id (with its version, where it has one) that ``text`` as a whole is, or None.

    >>> parse_id("https://arxiv.org/pdf/2402.11651v2.pdf")
    '2402.11651v2'
    >>> parse_id("arXiv:cs/0306108")
    'cs/0306108'
    >>> parse_id("math.GT/0309136v1")
    'math.GT/0309136v1'
    >>> parse_id("see 2402.11651") is None
    True
    """
    match = _WRITTEN.fullmatch(text.strip().strip("<>"))
    return match[1] if match else None


def split_version(identity: str) -> tuple[str, int]:
    """An arXiv id without its version, and the version; 0 where it names none.

    >>> split_version("solv-int/9901001v2")
    ('solv-int/9901001', 2)
    """
    paper, _, version = re.sub(r"v(\d+)$", r" \1", identity).partition(" ")
    return paper, int(version or 0)


def year_of(identity: str) -> int:
    """The year that an arXiv id tells.

    >>> year_of("2402.11651"), year_of("hep-th/9711200")
    (2024, 1997)
    """
    digits = int(identity.rpartition("/")[2][:2])
    return digits + (1900 if digits > 90 else 2000)


def parse_ids(text: str) -> list[str]:
    """The ids in a list separated by spaces or commas; empty where any part is none."""
    ids = [parse_id(part) for part in re.split(r"[\s,;]+", re.sub(r"(?i)arxiv:\s+", "arxiv:", text.strip())) if part]
    return [found for found in ids if found] if all(ids) else []


@dataclass
class Client:
    """Calls the export API. ``base_url`` can be another server that speaks the same; times are seconds."""

    base_url: str = field(default_factory=lambda: API)
    pause: float = field(default_factory=lambda: PAUSE)
    timeout: float = 30.0
    tries: int = 3

    @property
    def host(self) -> str:
        """Who is asked, as the user is told."""
        return f"arXiv ({urlsplit(self.base_url).netloc})"

    def by_ids(self, ids: Sequence[str]) -> Table:
        """The papers with these ids, in this order; one that arXiv does not have is a record with an error."""
        found: dict[str, dict[str, str]] = {}
        for at in range(0, len(ids), _PAGE):
            part = ids[at : at + _PAGE]
            for row in self._rows({"id_list": ",".join(part), "max_results": str(len(part))}):
                key = _key(row["arxiv_id"])
                found.setdefault(key, row)
                found.setdefault(split_version(key)[0], row)
        records = [
            Record(number, found.get(_key(wanted)) or {"arxiv_id": wanted}, error=_missing(wanted, found))
            for number, wanted in enumerate(ids, start=1)
        ]
        return _table(records)

    def search(self, words: Sequence[str], limit: int) -> Table:
        """The ``limit`` papers that arXiv finds most relevant to all ``words``."""
        query = " AND ".join(f"all:{word}" for word in words)
        rows: list[dict[str, str]] = []
        while len(rows) < limit:
            size = min(_PAGE, limit - len(rows))
            wanted = {"search_query": query, "sortBy": "relevance", "start": str(len(rows)), "max_results": str(size)}
            page = list(self._rows(wanted))
            rows += page
            if len(page) < size:
                break
        return _table([Record(number, row) for number, row in enumerate(rows, start=1)])

    def _rows(self, query: dict[str, str]) -> Iterator[dict[str, str]]:
        root = _parse(self._get(query))
        for entry in root.iter(f"{_ATOM}entry"):
            row = _row(entry)
            if "/api/errors" in _text(entry, f"{_ATOM}id"):
                raise InputError(f"arXiv refused the request: {shown(row['abstract'], 120)}")
            if row["arxiv_id"]:
                yield row

    def _get(self, query: dict[str, str]) -> bytes:
        """The body of one answer; busy and broken servers are asked again, politely."""
        import http.client
        import urllib.error
        import urllib.parse
        import urllib.request

        from harness import __version__

        request = urllib.request.Request(
            f"{self.base_url}?{urllib.parse.urlencode(query)}",
            headers={"User-Agent": f"marginalia/{__version__} (reads abstracts for annotation)"},
        )
        why = ""
        for attempt in range(self.tries):
            self._wait(self.pause * 2**attempt if attempt else self.pause)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                    body = bytes(answer.read(_MAX_BYTES + 1))
                if len(body) > _MAX_BYTES:
                    raise InputError("arXiv's answer is far larger than it can be", "ask for fewer papers")
                return body
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}"
                error.close()
                if error.code != 429 and error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                why = str(getattr(error, "reason", None) or error) or type(error).__name__
        raise InputError(f"arXiv could not be reached ({shown(why, 120)})", "try again later, or give a file of papers")

    def _wait(self, pause: float) -> None:
        left = _LAST_CALL[0] + pause - time.monotonic()
        if left > 0:
            time.sleep(left)
        _LAST_CALL[0] = time.monotonic()


def _parse(body: bytes) -> Element:
    """The Atom feed. A document type (the door to entity bombs and foreign files) is refused unread."""
    import xml.etree.ElementTree as ElementTree

    try:
        text = body.decode("utf-8")  # a string, so that no declared encoding can hide a document type from the check
        if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
            raise InputError("arXiv's answer is not an Atom feed (it has a document type)", "check the network")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise InputError(f"arXiv's answer is not an Atom feed ({shown(str(error))})", "check the network") from error


def _row(entry: Element) -> dict[str, str]:
    authors = [_text(author, f"{_ATOM}name") for author in entry.iter(f"{_ATOM}author")]
    categories = [category.get("term", "") for category in entry.iter(f"{_ATOM}category")]
    values = (
        parse_id(_text(entry, f"{_ATOM}id")) or "",
        _text(entry, f"{_ATOM}title"),
        ", ".join(filter(None, authors)),
        _text(entry, f"{_ATOM}published"),
        ", ".join(filter(None, categories)),
        _text(entry, f"{_ARXIV}doi"),
        _text(entry, f"{_ARXIV}journal_ref"),
        (entry.findtext(f"{_ATOM}summary") or "").strip(),  # its line breaks are the authors' own
    )
    return dict(zip(FIELDNAMES, values, strict=True))


def _text(element: Element, tag: str) -> str:
    return " ".join((element.findtext(tag) or "").split())


def _key(identity: str) -> str:
    """An id for comparing: arXiv answers ``math/0309136v1`` to ``math.GT/0309136v1``."""
    return re.sub(r"\.[a-z]{2}/", "/", identity.casefold())


def _missing(wanted: str, found: dict[str, dict[str, str]]) -> str | None:
    return None if _key(wanted) in found else f"arXiv has no paper {wanted}"


def _table(records: list[Record]) -> Table:
    return Table("arXiv", "arxiv", FIELDNAMES, lambda: iter(records), len(records))
