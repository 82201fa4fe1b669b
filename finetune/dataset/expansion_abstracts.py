"""Expansions made of abstracts: a query a paper answers, and lines in the words that its abstract uses for the subject.

The query comes from the title or from two terms of the abstract; the passage is the sentence of the abstract that is
nearest to it; lex lines join words of the query with terms of that passage and its neighbours; vec lines are questions
that do the same. What belongs together in the abstract so comes to stand together in the expansion, and every word of it
is either the query's or the abstract's: nothing is known here about any set of evaluation queries. Pure functions.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from finetune.dataset.expansion_schema import Example
from finetune.rewards.words import FUNCTION_WORDS, content_stems
from harness import sentences
from skills.expand.expansion import Line, ordered
from skills.expand.words import holds, named_entities

SOURCE = "abstract"
PASSAGE = (60, 200)
"""Characters of a passage: QMD's rubric wants 50 to 200."""
FEW_PAPERS, MOST_PAPERS = 8, 200
"""Papers that say which terms go with a query: at least, where its words stand together, and at most."""
SUPPORT, LIFT = 3, 4.0
"""Papers of these that must have a term, and how many times more often than by chance."""
QUOTES = 0.5
"""How often the first lex line has a term of the query as a quoted phrase."""
TRIES = 4
"""Queries that are tried for a paper until one has a passage and enough terms."""
SCAFFOLD = frozenset(
    """
    paper work study approach approaches method methods result results propose proposed present presented show shows shown
    new novel introduce introduces existing recent recently based many several various different first second two three
    experiments experimental demonstrate demonstrates outperforms state-of-the-art state art significant significantly
    challenges challenge problem problems important key however moreover furthermore additionally thus hence et al e.g i.e
    provide provides achieve achieves improve improves performance better best high low large small well research
    """.split()
)
"""Words with which abstracts speak of themselves."""
_WORD = re.compile(r"[^\W_]+(?:[-+#'’.][^\W_]+)*[+#]*")
_BREAK = re.compile(r"[^\w\s'’+#-]+")
_UNFIT = re.compile(r"[$\\{}<>|^_]|https?:|www\.|[^\x20-\x7e]")
_DEFINED = re.compile(r"((?:[A-Za-z][\w-]*[ -]){1,6}[A-Za-z][\w-]*) \(([A-Z][A-Za-z]*[A-Z][a-z]?)s?\)")
_OPENERS = re.compile(
    r"^(?:however|moreover|furthermore|additionally|in addition|finally|in this paper|in this work|here|thus|hence|to this"
    r" end|specifically|in particular|therefore|consequently|in contrast|first|second|third|yet|also|besides), +",
    re.IGNORECASE,
)
VEC = (
    "how does {p} help with {q}",
    "how is {p} used in {q}",
    "what is the role of {p} in {q}",
    "what methods are there for {q} with {p}",
    "how do {q} and {p} relate to each other",
    "what is known about {q} in terms of {p}",
    "which approaches to {q} make use of {p}",
    "why does {p} matter for {q}",
    "how can {p} be improved for {q}",
    "what are the effects of {p} on {q}",
    "what are the limits of {q} when it comes to {p}",
    "how well does {q} work under {p}",
    "how to evaluate {q} by means of {p}",
    "what makes {q} depend on {p}",
)
ASK = (
    "what is {q}",
    "how does {q} work",
    "how to improve {q}",
    "how to use {q}",
    "best methods for {q}",
    "why is {q} hard",
    "{q} explained",
    "examples of {q}",
    "{q} survey",
    "recent advances in {q}",
    "what are the limits of {q}",
    "how to evaluate {q}",
    "does {q} really work",
    "when to use {q}",
)
_ASKING = frozenset(
    (
        "handle explained examples survey recent advances vs best methods hard other really limits evaluate improve affect"
        " work"
    ).split()
)


@dataclass(frozen=True)
class Paper:
    """What is used of a paper."""

    title: str
    sentences: tuple[str, ...]

    @classmethod
    def of(cls, title: str, abstract: str) -> Paper:
        """White space is folded; sentences with formulas, addresses or letters beyond ASCII are left out."""
        found = (" ".join(part.text.split()) for part in sentences.split(" ".join(abstract.split())))
        return cls(" ".join(title.split()), tuple(text for text in found if not _UNFIT.search(text)))


def phrases(text: str) -> Iterator[tuple[str, ...]]:
    """Runs of two or three content words that no punctuation parts: what may be a term (as RAKE, Rose et al. 2010).

    >>> list(phrases("The protein language models, safely."))
    [('protein', 'language'), ('language', 'models'), ('protein', 'language', 'models')]
    """
    for part in _BREAK.split(text):
        run: list[str] = []
        for word in [*_WORD.findall(part), ""]:
            if word and word.casefold() not in FUNCTION_WORDS | SCAFFOLD and len(word) > 1 and not word.isdigit():
                run.append(word)
                continue
            yield from pairwise(run)
            yield from zip(run, run[1:], run[2:], strict=False)
            run = []


@dataclass(frozen=True)
class Terms:
    """Which phrases a corpus uses as terms, and which of them go with which words."""

    good: frozenset[tuple[str, ...]]
    """Phrases whose words stand together more often than by chance (pointwise mutual information), folded."""
    of: tuple[tuple[str, ...], ...] = ()
    """The terms of each paper, as text."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Papers that have a term."""
    papers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Places of the papers that have a stem."""

    @classmethod
    def fit(cls, papers: Sequence[Paper], *, least: int = 6, lift: float = 6.0) -> Terms:
        """Phrases of at least ``least`` papers whose words stand together ``lift`` times more often than by chance."""
        single: Counter[str] = Counter()
        joint: Counter[tuple[str, ...]] = Counter()
        said: list[list[tuple[str, ...]]] = []
        postings: dict[str, list[int]] = {}
        for place, paper in enumerate(papers):
            text = " . ".join((paper.title, *paper.sentences)).casefold()
            found = list(dict.fromkeys(phrases(text)))
            single.update(set(_WORD.findall(text)))
            joint.update(found)
            said.append(found)
            for stem in dict.fromkeys(content_stems(text)):
                postings.setdefault(stem, []).append(place)
        good = set()
        for phrase, together in joint.items():
            expected = float(len(said))
            for word in phrase:
                expected *= single[word] / len(said)
            if together >= least and together > lift * expected:
                good.add(phrase)
        of = tuple(tuple(" ".join(phrase) for phrase in found if phrase in good) for found in said)
        return cls(frozenset(good), of, {" ".join(phrase): joint[phrase] for phrase in good}, postings)

    def related(self, query: str, most: int) -> list[str]:
        """Terms that go with the words of a query: in the papers that have them far more often than elsewhere.

        The papers are those with the query's rarest stems, as many of them together as leave ``FEW_PAPERS``. A term must
        stand in ``SUPPORT`` of them; the order is by how many have it, times the log of how much that is above chance.
        """
        own = set(content_stems(query))
        found: set[int] = set()
        for stem in sorted((stem for stem in own if stem in self.papers), key=lambda one: (len(self.papers[one]), one)):
            those = set(self.papers[stem])
            if found and len(found & those) < FEW_PAPERS:
                break
            found = found & those if found else those
        some = sorted(found)[:MOST_PAPERS]
        near = Counter(term for place in some for term in self.of[place])
        scored = []
        for term, count in near.items():
            lift = count / len(some) / (self.counts[term] / len(self.of))
            if count >= SUPPORT and lift > LIFT and not own & set(content_stems(term)):
                scored.append((-count * math.log(lift), term))
        return [term for _, term in sorted(scored)[:most]]

    def found_in(self, text: str) -> list[str]:
        """The terms of a text, longer ones first where they share words, as written but for the case of plain words."""
        taken: set[str] = set()
        found = []
        for phrase in sorted(dict.fromkeys(phrases(text)), key=len, reverse=True):
            folded = tuple(word.casefold() for word in phrase)
            if folded in self.good and not taken & set(folded):
                taken.update(folded)
                found.append(" ".join(word if _is_name(word) else word.casefold() for word in phrase))
        return sorted(found, key=lambda term: text.casefold().find(term.casefold()))


def _is_name(word: str) -> bool:
    return any(letter.isupper() for letter in word[1:]) or any(letter.isdigit() for letter in word)


def definitions(text: str) -> dict[str, str]:
    """Acronyms that a text defines, with their full forms.

    >>> definitions("We use Monte Carlo tree search (MCTS) and BERT (big).")
    {'MCTS': 'Monte Carlo tree search'}
    """
    found = {}
    for match in _DEFINED.finditer(text):
        words, letters = match[1].replace("-", " ").split(), match[2].rstrip("s").casefold()
        full = words[-len(letters) :]
        if len(letters) > 1 and "".join(word[0] for word in full).casefold() == letters:
            start = match[1].casefold().rfind(" ".join(full)[:6].casefold())
            written = match[1][start:]  # with its hyphens, where it begins with whole words
            found[match[2]] = written if written.replace("-", " ").split() == full else " ".join(full)
    return found


def _subject(title: str) -> tuple[str, str]:
    """The name before a title's colon (empty where there is none), and what the title says beside it."""
    name, colon, rest = title.partition(": ")
    if colon and len(name.split()) <= 2 and _is_name(name):
        return name, rest
    return "", rest if colon and len(rest.split()) > 3 else title


def _lowered(text: str) -> str:
    return " ".join(word if _is_name(word) else word.casefold() for word in text.strip(" .?!").split())


def queries(paper: Paper, terms: Sequence[str], dice: random.Random) -> str:
    """A query that the paper answers; empty where it has too few terms."""
    name, topic = _subject(paper.title)
    topic = _lowered(topic)
    if len(terms) < 3:
        return ""
    one, two = dice.sample(terms[: max(4, len(terms) // 2)], 2)
    pick = dice.random()
    acronyms = definitions(" ".join(paper.sentences))
    if acronyms and pick < 0.25:
        short = dice.choice(sorted(acronyms))
        others = [term for term in terms if short not in term and term.casefold() not in acronyms[short].casefold()]
        form = dice.choice(("{a} {t}", "{a} for {t}", "{t} with {a}", "{a}", "what is {a} in {t}", "{t} {a}"))
        return form.format(a=short, t=dice.choice(others or terms))
    if name and pick < 0.4:
        return dice.choice((f"{name} {one}", f"{name} vs other {one}", f"{one} in {name}", f"how does {name} handle {one}"))
    if pick < 0.6 and 2 <= len(topic.split()) <= 9:
        return topic
    if pick < 0.75:
        return dice.choice(ASK).format(q=one)
    if pick < 0.85:
        return one
    if pick < 0.9:
        return dice.choice(one.split())
    forms = ("{a} {b}", "{a} for {b}", "{a} vs {b}", "{b} in {a}", "how does {a} affect {b}")
    return dice.choice(forms).format(a=one, b=two)


def example(paper: Paper, terms: Terms, dice: random.Random) -> Example | None:
    """A query and its lines made of one paper; None where it gives none."""
    whole = ". ".join((*paper.sentences, paper.title))
    found = terms.found_in(whole)
    query = queries(paper, found, dice)
    if not query or _UNFIT.search(query) or len(query) > 110:
        return None
    passage = _passage(query, paper.sentences)
    if not passage:
        return None
    own = set(content_stems(query))
    full = [text for short, text in definitions(whole).items() if re.search(rf"\b{re.escape(short)}s?\b", query)]
    known = terms.related(query, 12)
    near = [term for term in terms.found_in(passage) if not own & set(content_stems(term))]
    inside = [term for term in near if term.casefold() in known]
    mentioned = [term for term in found if term.casefold() in known]
    news = list(dict.fromkeys([*map(_lowered, full), *inside, *mentioned, *known[:4], *near]))
    news = [term for place, term in enumerate(news) if not _within(term, news[:place])]
    if len(news) < 2:
        return None
    lexical = _lex(query, news[:5], terms, dice)
    lines = [Line("hyde", passage), *lexical, *_vec(query, news, dice)]
    try:
        return Example(query=query, output=tuple((line.type, line.text) for line in ordered(lines)), source=SOURCE)  # type: ignore[misc]
    except ValueError:
        return None


def _within(term: str, others: Iterable[str]) -> bool:
    """Whether a term says what one of the others says."""
    own = set(content_stems(term))
    return any(own <= set(content_stems(other)) for other in others)


def _passage(query: str, texts: Sequence[str]) -> str:
    """The sentence of fitting length that shares most with the query; empty where none shares a word."""
    own = set(content_stems(query))
    best, most = "", 0.0
    for text in texts:
        text = _OPENERS.sub("", text)
        if PASSAGE[0] <= len(text) <= PASSAGE[1]:
            shared = len(own & set(content_stems(text))) - 0.001 * len(text.split())
            if shared > most:
                best, most = text[0].upper() + text[1:], shared
    return best


def core(query: str) -> str:
    """A query without the words that only ask: its names and content words in their order.

    >>> core("how does SafeGround handle safety metrics")
    'SafeGround safety metrics'
    """
    words = [word for word in query.split() if word.casefold() not in FUNCTION_WORDS | _ASKING]
    return " ".join(words[:6]) or query


def _lex(query: str, news: Sequence[str], terms: Terms, dice: random.Random) -> list[Line]:
    """Two or three lines: words of the query, every name among them, each with another term."""
    words = core(query).split()
    names = named_entities(query)
    known = [term for term in terms.found_in(core(query)) if " " in term]
    lines: list[Line] = []
    for number, new in enumerate(_paired(news, dice.choice((2, 3, 3)))):
        # The first line has the whole query, later ones a part of it: the lines should not find the same.
        kept = words if number == 0 or len(words) < 3 else [w for w in words if w in names or dice.random() < 0.6]
        head = " ".join(kept or words[:2])
        if names and not all(holds(head, name) for name in names):
            head = " ".join(dict.fromkeys([*names, *head.split()]))
        for term in known[:1]:
            if term in head and number == 0 and dice.random() < QUOTES:
                head = head.replace(term, f'"{term}"')
        text = f"{head} {new}" if dice.random() < 0.75 else f"{new} {head}"
        if len(text.split()) <= 10 and len(text) <= 75:
            lines.append(Line("lex", text))
    return lines


def _paired(news: Sequence[str], lines: int) -> list[str]:
    """What each line adds: a term, the first of two words with another one where there are terms to spare."""
    spare = len(news) - lines
    head = [f"{news[0]} {news[1]}"] if spare > 0 and len(news[0].split()) == 2 else []
    return [*head, *news[2 * len(head) :]][:lines]


def _vec(query: str, news: Sequence[str], dice: random.Random) -> list[Line]:
    """Two questions that join the query with a term each."""
    subject = re.sub(r"^(?:what is|how does|how to|why is|when to use|what are the limits of|does) ", "", query)
    subject = re.sub(r" (?:work|explained|survey|hard|really work)$", "", subject)
    return [Line("vec", form.format(q=subject, p=new)) for form, new in zip(dice.sample(VEC, 2), news, strict=False)]


def make(papers: Sequence[Paper], count: int, *, seed: int) -> Iterator[Example]:
    """At most ``count`` examples, one of a paper, the papers in an order that the seed decides."""
    dice = random.Random(seed)
    order = list(papers)
    dice.shuffle(order)
    terms = Terms.fit(order)
    made = 0
    for paper in order:
        if made >= count:
            return
        for _ in range(TRIES):
            if (found := example(paper, terms, dice)) is not None:
                made += 1
                yield found
                break


def papers_of(rows: Iterable[Mapping[str, object]], most: int) -> list[Paper]:
    """The first ``most`` rows with a title and an abstract."""
    found: list[Paper] = []
    for row in rows:
        if len(found) >= most:
            break
        title, abstract = row.get("title"), row.get("abstract")
        if isinstance(title, str) and isinstance(abstract, str):
            found.append(Paper.of(title, abstract))
    return found
