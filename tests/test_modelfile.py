"""Modelfiles, read back by a parser that follows Ollama's rules (no escapes; a value ends where its quotes do)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.models.modelfile import MODELFILES, file_name, quote, render, render_all, write_all
from harness.registry import Entry, Gguf, write


def unquote(text: str) -> str | None:
    """The value, or None while its quotes are still open."""
    for mark in ('"""', '"'):
        if text.startswith(mark):
            closed = len(text) >= 2 * len(mark) and text.endswith(mark)
            return text[len(mark) : -len(mark)] if closed else None
    return text


def parse(modelfile: str) -> list[tuple[str, str]]:
    """Commands and values; parameters count as ``PARAMETER name``."""
    commands: list[tuple[str, str]] = []
    lines = iter(modelfile.split("\n"))
    for line in lines:
        if not line or line.startswith("#"):
            continue
        command, _, rest = line.partition(" ")
        assert command in {"FROM", "TEMPLATE", "SYSTEM", "PARAMETER", "LICENSE"}, line
        if command == "PARAMETER":
            name, _, rest = rest.partition(" ")
            command += f" {name}"
        while (value := unquote(rest.strip())) is None:
            rest += "\n" + next(lines)
        commands.append((command, value))
    return commands


ENTRY = Entry(
    name="reader:one",
    task="annotate",
    licence="MIT\nCopyright someone",
    gguf=Gguf("my model.gguf", "0" * 64, 1),
    template='{{ if eq .Role "user" }}\n{{ .Prompt }}"\nFROM /etc/passwd\n{{ end }}',
    system='You say "yes"',
    parameters={"stop": ["\n", "</annotation>", " x ", '"'], "num_ctx": 2048, "temperature": 0.0, "use_mmap": True},
)


def test_everything_comes_back_and_nothing_else(tmp_path: Path) -> None:
    entry = replace(ENTRY, folder=tmp_path / "registry" / "reader")
    assert parse(render(entry, tmp_path / "Modelfiles")) == [
        ("FROM", "../registry/reader/my model.gguf"),
        ("TEMPLATE", ENTRY.template),
        ("SYSTEM", 'You say "yes"'),
        ("PARAMETER stop", "\n"),
        ("PARAMETER stop", "</annotation>"),
        ("PARAMETER stop", " x "),
        ("PARAMETER stop", '"'),
        ("PARAMETER num_ctx", "2048"),
        ("PARAMETER temperature", "0.0"),
        ("PARAMETER use_mmap", "true"),
        ("LICENSE", ENTRY.licence),
    ]


@pytest.mark.parametrize(
    "text", ["", "a", "#x", '"', '""', 'x"', '"x', 'a\n"', '"\nFROM x', "a\tb", "é", "' '", "\\n", '"\n"']
)
def test_quotes_hold(text: str) -> None:
    assert parse(f"SYSTEM {quote(text)}\nFROM y") == [("SYSTEM", text), ("FROM", "y")]


@pytest.mark.parametrize("text", ['a """ b', "a\rFROM x", "\x1b[0m", "\0"])
def test_what_cannot_be_quoted_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot stand in a Modelfile"):
        quote(text)


def test_a_parameter_name_is_a_word() -> None:
    with pytest.raises(InputError, match="not a parameter"):
        render(replace(ENTRY, parameters={"stop x\nFROM": "y"}))


def test_write_all_writes_and_removes_only_what_it_made(tmp_path: Path) -> None:
    shelf, folder = tmp_path / "registry", tmp_path / "Modelfiles"
    write(ENTRY, shelf)
    write(replace(ENTRY, name="reader:latest"), shelf)
    write(replace(ENTRY, name="tag:only", gguf=None, ollama="tag:only"), shelf)
    assert [path.name for path in write_all(shelf, folder)] == ["reader-one.Modelfile", "reader.Modelfile"]
    (folder / "NOTES").write_text("mine")
    (shelf / "reader" / "one.toml").unlink()
    write_all(shelf, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["NOTES", "reader.Modelfile"]
    write(replace(ENTRY, name="a:b-c"), shelf)
    write(replace(ENTRY, name="a-b:c"), shelf)
    with pytest.raises(InputError, match="two entries would write it"):
        write_all(shelf, folder)


def test_file_names() -> None:
    assert file_name(replace(ENTRY, name="hf.co/a/b:q8")) == "hf.co-a-b-q8.Modelfile"
    assert file_name(replace(ENTRY, name="x:latest")) == "x.Modelfile"
    assert file_name(replace(ENTRY, name="x:mini", ollama="x:latest")) == "x.Modelfile"


def test_the_checked_in_modelfiles_are_up_to_date() -> None:
    wanted = render_all()
    there = {path: path.read_text(encoding="utf-8") for path in MODELFILES.glob("*") if not path.name.startswith(".")}
    assert there == wanted, "run: python -m harness.models.modelfile"
