"""The word lists and limits of QMD's rubric.

They decide scores, so they are those of ``finetune/reward.py`` in github.com/tobi/qmd (commit dbfd0b4, MIT licence), word
for word: with any other lists our numbers could not stand beside the published ones.
"""

from __future__ import annotations

TYPES = ("lex", "vec", "hyde")
PREFIXES = ("lex:", "vec:", "hyde:")
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "\nassistant\n", "\nuser\n")
"""What a broken output leaks of its chat template."""
FILLER = frozenset({"overview", "basics"})
"""Words that template-made lex lines are padded with."""
REPEATABLE = frozenset("the a an is are to for of in and or it this that be with as on by".split())
"""Words that a passage may repeat."""

NO_KEY_TERM = frozenset(
    """
    what is how to the a an in on for of and or with my your do does can i me we who where when why which find get show tell
    about from into between through during after before like than then that this their its was were has had been being have
    not but just also very so if at by up out all some any no each every both few more most other only same such here there
    asked said notes meeting email discussion conversation call
    """.split()
)
"""Words of a query that say nothing of its subject."""

QUERY_VERBS = frozenset(
    """
    configure setup install build create make run start stop check test debug fix update change add remove delete use using
    need want should would could help please best good new old latest recent setting settings compare comparing implement
    implementing deploy deploying migrate migrating optimize optimizing understand understanding explain list describe
    define convert connecting performance overview introduction tutorial example difference between about review resolve
    resolving troubleshoot troubleshooting monitor monitoring manage managing enable disable set write read search possible
    common typical recommended alternative
    """.split()
)
"""Words that open a query with a capital and are no name."""

GENERIC_PHRASES = tuple(
    tuple(phrase.split())
    for phrase in (
        "find information about", "search for", "look up", "get information", "learn about", "information on",
        "details about", "find out about", "what is", "how to", "guide to", "help with",
    )
)  # fmt: skip
"""Phrases that, standing alone, make a lex line useless."""
GENERIC_REST = 3
"""A line is generic when fewer characters than these remain without the phrase."""

ECHO_MARGIN = 10
"""A line that holds the query and fewer characters than these beside it echoes the query."""
NATURAL_LENGTH = 15
"""A vec line of more characters that has a space counts as natural language."""
HYDE_SHORT, HYDE_LONG = 50, 200
"""Characters of a good passage, both included."""
LONG_QUERY = 5
"""From so many words of the query on, two lines must differ in three words instead of two."""
EXCELLENT, GOOD, ACCEPTABLE, POOR = 80.0, 60.0, 40.0, 20.0
"""Percentages from which a rating is given."""
ECHO_CAP = 50.0
"""The highest percentage of an expansion with a lex line that echoes the query."""
