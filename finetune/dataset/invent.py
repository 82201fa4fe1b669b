"""Queries that a chat model invents for training data: what is asked, and how its answer is read. Pure functions.

Request ``number`` fixes category, subject and kind of searcher, so that the same numbers give the same requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import ModelError
from harness.models.base import Message
from harness.models.reply_json import json_object
from skills.expand.expansion import one_line

CONTRACT = "expand-queries@1"
"""Raise the number when prompt or schema change: it is part of what an answer is cached under."""
PER_REQUEST = 8
OUTPUT_TOKENS = 400
LONGEST = 120
"""Characters of a query."""
CATEGORIES = {
    "technical": "about software, tools and their settings, in the words of people who work with them",
    "short": "of one or two words only, as typed in a hurry",
    "named entities": "that name a product, person, company, place, method or version",
    "personal": "in somebody's own notes, mails and meetings, with first names and projects",
    "research": "for scientific papers: methods, data sets, measurements, open questions",
    "errors": "that hold an error message, a symptom or something that broke",
    "temporal": "about the latest state, a change, a date or a release",
    "complex": "of eight words or more that combine two conditions or compare two things",
    "quoted": 'with a "quoted phrase" that must be found word for word',
    "negation": "with one -word for a meaning that is not wanted",
}
SUBJECTS = (
    "machine learning", "web servers", "databases", "cooking", "gardening", "medicine", "law", "history", "physics",
    "chemistry", "biology", "astronomy", "economics", "personal finance", "travel", "music", "films", "sports",
    "philosophy", "linguistics", "education", "parenting", "cycling", "cars", "electronics", "mobile apps",
    "operating systems", "networks", "security", "statistics", "climate", "energy", "architecture", "photography",
    "painting", "literature", "psychology", "sociology", "politics", "geography", "oceans", "animals", "plants",
    "nutrition", "fitness", "sleep", "insurance", "housing", "tools", "knitting", "board games", "video games",
    "spreadsheets", "project management", "hiring", "sales", "logistics", "farming", "robots", "materials", "mathematics",
    "compilers", "search engines", "typography",
)  # fmt: skip
SEARCHERS = (
    "a beginner", "an expert in a hurry", "a student before an exam", "a journalist", "an engineer on call", "a hobbyist",
    "a manager", "a researcher who reads many papers", "a teacher", "somebody who remembers only half of a document",
)  # fmt: skip


def task(number: int) -> tuple[str, str, str]:
    """Category, subject and searcher of a request; every combination comes once before any comes again.

    >>> len({task(n) for n in range(6400)})
    6400
    """
    categories = list(CATEGORIES)
    place, number = number % len(categories), number // len(categories)
    # 37 has no factor in common with 64, nor 7 with 10: both walks reach every place, and neighbours differ.
    subject, rounds = SUBJECTS[number * 37 % len(SUBJECTS)], number // len(SUBJECTS)
    return categories[place], subject, SEARCHERS[(rounds * 7 + place) % len(SEARCHERS)]


def messages(number: int) -> tuple[Message, ...]:
    """The chat that asks for queries."""
    category, subject, searcher = task(number)
    system = (
        "You invent search queries as people type them into the search of their own documents: mostly lower case, no full "
        f"sentences unless asked for, no explanations. Answer with one JSON object with the key queries, a list of "
        f"{PER_REQUEST} queries that differ in subject and in wording."
    )
    return (
        Message("system", system),
        Message("user", f"{PER_REQUEST} queries {CATEGORIES[category]}. Subject: {subject}. Searcher: {searcher}."),
    )


def schema() -> dict[str, Any]:
    """JSON schema of the answer."""
    query = {"type": "string", "minLength": 2, "maxLength": LONGEST}
    queries = {"type": "array", "items": query, "minItems": 1, "maxItems": PER_REQUEST}
    return {"type": "object", "properties": {"queries": queries}, "required": ["queries"], "additionalProperties": False}


def parse(text: str) -> list[str]:
    """The queries of an answer, which may stand in a Markdown fence. Raises ModelError where it is no such JSON."""
    try:
        value = json_object(text)["queries"]
    except (ValueError, KeyError):
        raise ModelError("the model's answer is no JSON with queries", "take another model with --model") from None
    return usable(value if isinstance(value, list) else [])


def usable(values: Sequence[object]) -> list[str]:
    """The texts that can be queries, on one line each."""
    found = [one_line(value) for value in values if isinstance(value, str)]
    return [
        query
        for query in found
        if 2 <= len(query) <= LONGEST
        and any(map(str.isalpha, query))
        and "<|" not in query
        and "/only:" not in query.lower()
    ]
