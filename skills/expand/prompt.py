"""Prompt contract ``expand@1``: the bytes of the prompt and the shape of the answer of a model tuned for expansion.

The prompt is Qwen3's chat template with thinking off (``enable_thinking=False``), for one user turn:

    <|im_start|>user
    /no_think Expand this search query: QUERY<|im_end|>
    <|im_start|>assistant
    <think>

    </think>

with the block of thoughts empty and two line ends after it. A ``/only:TYPE`` follows the query where only one type is
wanted, and ``Query intent: …`` stands on a line of its own below it where one is known. The answer is lines of
``expansion.py`` and the end of the turn. Training and every runtime take their bytes from here: the embedded one and
Ollama are sent ``render_prompt`` as a raw prompt, ``TEMPLATE`` gives a bare ``ollama run`` the same, ``CHAT_TEMPLATE``
travels inside the GGUF for whatever else serves it. Nothing here imports a model runtime.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InputError, UsageError
from skills.expand.expansion import LONGEST, MOST, TYPES, Line, one_line, render

CONTRACT = "expand@1"
INSTRUCTION = "/no_think Expand this search query: "
END = "<|im_end|>"
HEAD = f"<|im_start|>user\n{INSTRUCTION}"
TAIL = f"{END}\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

TEMPLATE = f"{HEAD}{{{{ .Prompt }}}}{TAIL}{{{{ .Response }}}}"
"""The same prompt as a Go template, for the Modelfile."""

STOPS = (END, "<|im_start|>", "<|endoftext|>")
"""Texts that end the answer."""

CHAT_TEMPLATE = (
    "{#- Prompt contract expand@1 of Marginalia: a user's message is the bare search query, or the whole instruction; "
    "the model was trained without system messages, and thinking is always off. "
    "The answer is hyde:, lex: and vec: lines. -#}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] == 'user' -%}\n"
    "{{- '<|im_start|>user\\n' -}}\n"
    f"{{%- if not message['content'].startswith('{INSTRUCTION}') -%}}{{{{- '{INSTRUCTION}' -}}}}{{%- endif -%}}\n"
    "{{- message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- elif message['role'] == 'assistant' -%}\n"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
)
"""The same prompt as a Jinja template, for the GGUF. Its comment also keeps it from being like any template that Ollama
knows: within an edit distance of 100 the daemon would take its own instead."""

OUTPUT_TOKENS = 400
"""An answer needs about 60 to 150."""
LINE_TOKENS = 200
"""The same for a single line that is asked for again."""
LEAST_MORE = 10
"""Characters that a line which was begun must go on for: a shorter one would find what its beginning finds."""
LONGEST_QUERY = 2000
"""Characters of a query, and of an intent."""
_ONLY = re.compile(r"^\s*/only:(\S*)(?=\s)|(?:^|\s)/only:(\S*)\s*$", re.IGNORECASE)
_TOKEN = re.compile(r"<(?=\||/?[a-z0-9_+-]+>)")


@dataclass(frozen=True)
class Query:
    """What is to be expanded."""

    text: str
    intent: str = ""
    only: tuple[str, ...] = ()
    """The types that are wanted; empty for all."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are wanted, in the order in which they are written."""
        return tuple(kind for kind in TYPES if kind in self.only) or TYPES


def split_only(text: str) -> tuple[str, tuple[str, ...]]:
    """What a user typed without a ``/only:TYPE`` (or ``/only:lex,vec``) before or behind it, and the types that it names.

    Raises UsageError for a type that there is not.

    >>> split_only("auth config /only:lex"), split_only("/only:lex,vec auth config")
    (('auth config', ('lex',)), ('auth config', ('lex', 'vec')))
    """
    match = _ONLY.search(text)
    if match is None:
        return text.strip(), ()
    said = match[1] or match[2] or ""
    named = re.split(r"[,|]", said.lower())
    if unknown := [name for name in named if name not in TYPES]:
        raise UsageError(f"/only:{one_line(said)}: no type is called {unknown[0]!r}", f"one of {', '.join(TYPES)}")
    return f"{text[: match.start()]} {text[match.end() :]}".strip(), tuple(named)


def parse_query(text: str, intent: str = "", only: Iterable[str] = ()) -> Query:
    """A query from what a user typed, checked; the types of its own ``/only:`` go before ``only``.

    Raises UsageError as ``split_only`` does, InputError for a query without a letter or digit, or one that is too long.
    """
    text, named = split_only(text)
    wanted = set(named or only)
    query = Query(one_line(text), one_line(intent), tuple(kind for kind in TYPES if kind in wanted))
    if not any(letter.isalnum() for letter in query.text):
        raise InputError("the query holds neither letters nor digits" if query.text else "the query is empty")
    for what, value in (("query", query.text), ("intent", query.intent)):
        if len(value) > LONGEST_QUERY:
            raise InputError(f"the {what} has {len(value):,} characters, at most {LONGEST_QUERY:,} are taken", "shorten it")
    return query


def plain(text: str) -> str:
    """Text as it may stand in a prompt: on one line, composed (NFC), with nothing that could pass for a chat token.

    >>> plain("ends <|im_end|>\\n and </think>, but Vec<T> < 3")
    'ends < |im_end|> and < /think>, but Vec<T> < 3'
    """
    return _TOKEN.sub("< ", one_line(unicodedata.normalize("NFC", text)))


def user_turn(query: Query) -> str:
    """What the user says, as training data for chat formats needs it.

    Types that are wanted but are not exactly one are left to the grammar: the model knows one ``/only:`` or none.
    """
    text = INSTRUCTION + plain(query.text)
    if len(query.only) == 1:
        text += f" /only:{query.only[0]}"
    return text + (f"\nQuery intent: {plain(query.intent)}" if query.intent else "")


def render_prompt(query: Query) -> str:
    """The whole prompt, to its last byte."""
    return HEAD + user_turn(query).removeprefix(INSTRUCTION) + TAIL


def completion(lines: Iterable[Line]) -> str:
    """What the model should write after the prompt: the training target."""
    return render(lines) + END


def grammar(types: Sequence[str]) -> str:
    """GBNF of an answer with all of ``types``: each at least once, at most ``MOST`` times, in their order, bounded."""
    blocks = [f'"{kind}: " {kind} ("\\n{kind}: " {kind}){{0,{MOST[kind] - 1}}}' for kind in types]
    rules = ["root ::= " + ' "\\n" '.join(blocks)]
    rules += [f"{kind} ::= first any{{0,{LONGEST[kind] - 1}}}" for kind in types]
    return "\n".join([*rules, *_LETTERS])


def line_grammar(kind: str, start: str = "") -> str:
    """GBNF of the rest of one line after ``TYPE:`` and ``start``: a space and at least ``LEAST_MORE`` characters."""
    room = max(LEAST_MORE, LONGEST[kind] - len(start) - 2)
    return "\n".join([f'root ::= " " first any{{{LEAST_MORE - 1},{room}}}', *_LETTERS])


_LETTERS = ("any ::= [^\\x00-\\x1F\\x7F]", "first ::= [^\\x00-\\x20\\x7F]")
