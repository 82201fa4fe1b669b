"""Ollama's TEMPLATE for a model: one of a few, chosen because it renders the same bytes as the tokenizer's own template.

``render`` executes the small part of Go's text/template that these use, with the values that Ollama gives them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import InputError

Chat = Sequence[Mapping[str, str]]
"""Turns with ``role`` and ``content``."""


@dataclass(frozen=True)
class Template:
    """A Go template and the strings that end a reply under it."""

    name: str
    go: str
    stops: tuple[str, ...]


_CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"
TEMPLATES = (
    Template("chatml", _CHATML, ("<|im_end|>",)),
    Template(
        "qwen2.5",
        f"{{{{ if not .System }}}}<|im_start|>system\n{_QWEN_SYSTEM}<|im_end|>\n{{{{ end }}}}{_CHATML}",
        ("<|im_end|>",),
    ),
    Template(
        "llama3",
        "{{ range .Messages }}"
        + _HEADER.format("{{ .Role }}")
        + "{{ .Content }}<|eot_id|>{{ end }}"
        + _HEADER.format("assistant"),
        ("<|eot_id|>",),
    ),
)
EXTRA_CHATS: tuple[Chat, ...] = (
    ({"role": "user", "content": "Which data set was used?"},),
    (
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ),
)
"""Chats beside the contract's own: of the templates that fit the contract, ``ollama run`` wants the one that fits these."""
_ACTION = re.compile(r"(\s*\{\{-|\{\{)\s*(.*?)\s*(-\}\}\s*|\}\})", re.DOTALL)


def choose(hf_render: Callable[[Chat], str], chats: Sequence[Chat]) -> Template:
    """The template that renders all ``chats`` as the tokenizer does. Raises InputError where none of ours does."""
    fitting = [template for template in TEMPLATES if all(render(template.go, chat) == hf_render(chat) for chat in chats)]
    if not fitting:
        known = ", ".join(template.name for template in TEMPLATES)
        raise InputError(
            f"the tokenizer's chat template renders the prompts as none of {known} does",
            "train on a base with one of these templates, or write the Modelfile's TEMPLATE by hand",
        )

    def extras(template: Template) -> int:
        return sum(_same(hf_render, template, chat) for chat in EXTRA_CHATS)

    return max(fitting, key=extras)


def _same(hf_render: Callable[[Chat], str], template: Template, chat: Chat) -> bool:
    try:
        return hf_render(chat) == render(template.go, chat)
    except Exception:  # noqa: BLE001 - a template may raise whatever it likes for a chat it does not take
        return False


def render(template: str, messages: Chat) -> str:
    """What Ollama would send to the model for a chat. ValueError for a part of the language that is not known here."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    turns = [{"Role": message["role"], "Content": message["content"]} for message in messages]
    parts = list(_lex(template))
    text, rest = _block(parts, {"Messages": turns, "System": system})
    if rest:
        raise ValueError(f"{rest[0][1]!r} without a beginning")
    return text


def _lex(template: str) -> Iterator[tuple[bool, str]]:
    """Texts (False) and actions (True); ``{{-`` and ``-}}`` take the white space beside them."""
    at = 0
    for found in _ACTION.finditer(template):
        yield False, template[at : found.start()] + ("" if found[1].endswith("-") else found[1][: -len("{{")])
        yield True, found[2]
        at = found.end()
    yield False, template[at:]


def _block(parts: Sequence[tuple[bool, str]], scope: Mapping[str, Any]) -> tuple[str, list[tuple[bool, str]]]:
    """Render up to the ``end`` of this block; what follows it."""
    out, rest = "", list(parts)
    while rest:
        is_action, text = rest.pop(0)
        if not is_action:
            out += text
        elif text == "end":
            return out, [(True, "end"), *rest]
        elif text.startswith("."):
            out += str(scope[text[1:]])
        else:
            word, _, argument = text.partition(" ")
            values = _values(word, argument, scope)
            after = _block(rest, {**scope, "Role": "", "Content": ""})[1]
            out += "".join(_block(rest, value)[0] for value in values)
            if not after or after[0] != (True, "end"):
                raise ValueError(f"{text!r} has no end")
            rest = after[1:]
    return out, []


def _values(word: str, argument: str, scope: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scopes in which a block is rendered: one a message, or one or none."""
    if word == "range":
        return [{**scope, **item} for item in scope[argument.removeprefix(".")]]
    negated = argument.startswith("not ")
    if word != "if":
        raise ValueError(f"{word!r} is not known here")
    return [scope] if bool(scope[argument.removeprefix("not ").removeprefix(".")]) != negated else []
