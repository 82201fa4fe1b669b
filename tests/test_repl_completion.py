from __future__ import annotations

from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from harness.errors import InputError
from harness.repl_completion import MOST_PATHS, ReplCompleter, Vocabulary, suggest
from harness.task import Flag

FLAGS = (
    Flag("style", "how the moves are written", metavar="STYLE", choices=("quote", "prose")),
    Flag("framework", "another set of moves", metavar="FILE", path=True),
    Flag("limit", "only the first N", metavar="N"),
    Flag("move", "only this one", metavar="MOVE", repeat=True),
    Flag("review", "walk through them"),
)
VOCABULARY = Vocabulary(
    commands={"help": "what can be typed", "model": "use a model", "skills": "the skills"},
    skills=lambda: {"annotate": "eight moves of an abstract", "ask": "questions"},
    flags=lambda name: FLAGS if name == "annotate" else (),
    models=lambda: {"qwen3:8b": "ollama", "llama3.2:3b": "ollama"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "papers.csv").touch()
    (tmp_path / "my papers").mkdir()
    (tmp_path / "my papers" / "a b.csv").touch()
    (tmp_path / ".hidden").touch()
    return tmp_path


def texts(before: str, folder: Path) -> list[str]:
    """The whole inputs that the suggestions would make of ``before``."""
    return [before[: len(before) - one.replaces] + one.text for one in suggest(before, VOCABULARY, folder)]


def test_slash_commands_come_with_descriptions(folder: Path) -> None:
    found = {one.text: one.meta for one in suggest("/", VOCABULARY, folder)}
    assert found["/annotate"] == "eight moves of an abstract"
    assert found["/help"] == "what can be typed"
    assert texts("/an", folder) == ["/annotate"]
    assert texts("  /an", folder) == ["  /annotate"]
    assert texts("see /an", folder) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/annotate --st", ["/annotate --style"]),
        ("/annotate --style ", ["/annotate --style quote", "/annotate --style prose"]),
        ("/annotate --style=p", ["/annotate --style=prose"]),
        ("/annotate --style prose --st", []),
        ("/annotate --move claim --mo", ["/annotate --move claim --move"]),
        ("/annotate --limit ", []),
        ("/annotate --o", ["/annotate --out"]),
        ("/ask --", ["/ask --out", "/ask --yes"]),
        ("/help an", ["/help annotate"]),
        ("/model q", ["/model qwen3:8b"]),
        ("/skills ", []),
        ("/annotate --framework pa", ["/annotate --framework papers.csv"]),
        ("/annotate --framework=pa", ["/annotate --framework=papers.csv"]),
        ("/annotate --review pa", ["/annotate --review papers.csv"]),
        ("/annotate papers.csv save to p", ["/annotate papers.csv save to papers.csv"]),
        ("annotate these papers in pa", ["annotate these papers in papers.csv"]),
    ],
)
def test_what_stands_at_the_cursor(folder: Path, before: str, after: list[str]) -> None:
    assert texts(before, folder) == after


def test_after_a_skill_come_its_flags_with_help_then_paths(folder: Path) -> None:
    found = list(suggest("/annotate ", VOCABULARY, folder))
    assert [one.text for one in found][:2] == ["--style", "--framework"]
    assert found[0].meta == "how the moves are written"
    assert [one.text for one in found][-2:] == ['"my papers/', "papers.csv"]


def test_paths_with_spaces_are_quoted_and_completed_within_the_quote(folder: Path) -> None:
    assert texts("/annotate my", folder) == ['/annotate "my papers/']
    assert texts('/annotate "my papers/', folder) == ['/annotate "my papers/a b.csv"']
    assert texts("/annotate save to 'my", folder) == ["/annotate save to 'my papers/"]


def test_a_completed_path_is_read_back_by_the_task_parser(folder: Path) -> None:
    from harness.task import parse_task, split_words

    class Annotate:
        name, triggers, flags = "annotate", (), FLAGS

    typed = texts('/annotate papers.csv save to "my papers/', folder)[0]
    task = parse_task(typed, [Annotate()])
    assert task.save_to == Path("my papers/a b.csv")
    assert split_words(task.text) == ["papers.csv"]


def test_awkward_names(folder: Path) -> None:
    (folder / 'it\'s "so".csv').touch()
    (folder / "x\x1b[31m.csv").touch()
    (folder / 'a"b.csv').touch()
    found = texts("/ask ", folder)
    assert "/ask 'a\"b.csv'" in found
    assert not any("so" in text or "\x1b" in text or ".hidden" in text for text in found)
    assert texts("/ask .h", folder) == ["/ask .hidden"]
    assert texts("/ask nowhere/x", folder) == []
    assert texts("/ask \0", folder) == []


def test_home_and_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert texts("/ask ~/pa", Path("/")) == ["/ask ~/papers.csv"]
    assert texts(f"/ask {folder}/pa", Path("/")) == [f"/ask {folder}/papers.csv"]


def test_a_huge_folder_gives_a_short_menu(tmp_path: Path) -> None:
    for number in range(MOST_PATHS + 20):
        (tmp_path / f"f{number}").touch()
    assert len(texts("/ask f", tmp_path)) == MOST_PATHS


def test_completions_replace_the_word_before_the_cursor() -> None:
    [found] = ReplCompleter(VOCABULARY).get_completions(Document("/model q and more", 8), CompleteEvent())
    assert (found.text, found.start_position) == ("qwen3:8b", -1)


def test_a_broken_skill_completes_nothing() -> None:
    def broken(name: str) -> tuple[Flag, ...]:
        raise InputError("skill.py cannot be loaded")

    vocabulary = Vocabulary({}, dict, broken, dict)
    assert list(ReplCompleter(vocabulary).get_completions(Document("/bad "), CompleteEvent())) == []
