"""What a task means, case by case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.task import Flag, Task, parse_task, slash_name, split_words, trigger_regex, unquote


@dataclass(frozen=True)
class Known:
    """A skill as the parser sees it."""

    name: str
    triggers: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()


ANNOTATE = Known(
    "annotate",
    ("annotate * abstract*", "annotate *.csv"),
    (
        Flag("style", "how", metavar="STYLE", choices=("quote", "prose")),
        Flag("column", "which", metavar="NAME", repeat=True),
        Flag("title", "title", metavar="TEXT"),
        Flag("force", "again"),
    ),
)
EXPAND = Known("expand", ("expand the query",))
SKILLS = (ANNOTATE, EXPAND)


def parse(raw: str) -> Task:
    return parse_task(raw, SKILLS)


def test_skill_input_flags_and_target() -> None:
    task = parse("/annotate papers.csv --style=prose --force save to out.csv")
    assert (task.skill, task.text, task.save_to) == ("annotate", "papers.csv", Path("out.csv"))
    assert task.flags == {"style": "prose", "force": True}
    assert task.why == ""


@pytest.mark.parametrize(
    "ending",
    [
        "save to out.csv",
        "and save to out.csv",
        "Save To out.csv",
        "--out out.csv",
        "--out=out.csv",
        'save to "out.csv"',
        "save to out.csv --force",
        "--force save to out.csv",
    ],
)
def test_every_way_to_name_the_target(ending: str) -> None:
    task = parse(f"/annotate papers.csv {ending}")
    assert (task.text, task.save_to) == ("papers.csv", Path("out.csv"))


def test_target_with_spaces() -> None:
    assert parse('/annotate a.csv save to "my results/out 1.csv"').save_to == Path("my results/out 1.csv")
    assert parse("/annotate a.csv --out='my out.csv'").save_to == Path("my out.csv")


@pytest.mark.parametrize(
    "text",
    [
        '"We save to disk what others lose"',
        "we save to disk what others lose",
        '"A cache that can save to disk"',
    ],
)
def test_save_to_inside_text_or_quotes_is_text(text: str) -> None:
    task = parse(f"/annotate {text}")
    assert (task.text, task.save_to) == (text.strip('"'), None)


def test_abstract_survives_verbatim() -> None:
    abstract = "The authors' model doesn't\n\n overfit --- 'tis 5'9\" tall; \\alpha -- \t\"sic\", path C:\\x\\n."
    assert parse(f"/annotate {abstract} --style quote save to o.md").text == abstract
    assert parse(f'/annotate "{abstract}" save to o.md').text == abstract


def test_flags_inside_quotes_are_text() -> None:
    task = parse('/annotate "run with --style prose" --force')
    assert (task.text, task.flags) == ("run with --style prose", {"force": True})


def test_repeated_flags_come_as_a_tuple() -> None:
    assert parse("/annotate x --column a --column='b c'").flags == {"column": ("a", "b c")}


def test_quoted_value_and_quoted_input() -> None:
    task = parse('/annotate "a b.csv" --title "c d"')
    assert (task.text, task.flags) == ("a b.csv", {"title": "c d"})


def test_yes_may_stand_in_the_task_and_the_users_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    task = parse("/annotate a.csv save to ~/out.csv --yes")
    assert (task.text, task.save_to, task.yes, task.flags) == ("a.csv", Path("/home/ada/out.csv"), True, {})
    assert parse("/annotate a.csv --out ~/out.csv").save_to == Path("/home/ada/out.csv")
    assert not parse("/annotate a.csv").yes


@pytest.mark.parametrize(
    "raw", ["papers/review/x.csv", "https://arxiv.org/abs/1/annotate", "/data/annotate/x.csv go", "see /annotate", ""]
)
def test_paths_urls_and_later_slashes_trigger_nothing(raw: str) -> None:
    assert parse(raw) == Task(raw, None, raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("/anotate x", "did you mean /annotate?"),
        ("/zzz", "known: /annotate, /expand"),
        ("/annotate x --stile prose", "or --style?"),
        ("/annotate x --style", "--style has no value"),
        ("/annotate x --style --force", "--style has no value"),
        ("/annotate x --style poem", "one of: quote, prose"),
        ("/annotate x --force=1", "takes no value"),
        ("/annotate x --title a --title b", "given twice"),
        ("/annotate x save to", "names no file"),
        ("/annotate x save to a.csv --out b.csv", "both save to and --out"),
        ('/annotate x save to ""', "cannot be the name of a file"),
        ("/annotate x save to ~nobody-is-called-so/x.csv", "cannot be the name of a file"),
        ('/annotate x save to "a\x1b[2Jb"', "cannot be the name of a file"),
    ],
)
def test_wrong_usage_is_one_clear_line(raw: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(raw)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_slash_name_ignores_case_and_needs_the_start() -> None:
    assert slash_name("/Annotate x") == "annotate"
    assert slash_name("/annotate") == "annotate"
    assert slash_name("/annotate/x") is None
    assert slash_name("//annotate") is None


@pytest.mark.parametrize(
    ("raw", "skill", "text"),
    [
        ("Annotate papers.csv save to o.csv", "annotate", "papers.csv"),
        ("annotate these ten abstracts: a.csv", "annotate", "these ten abstracts: a.csv"),
        ("Expand  the query: sparse attention", "expand", ": sparse attention"),
        ("expand the query sparse attention", "expand", "sparse attention"),
    ],
)
def test_triggers_activate_and_say_so(raw: str, skill: str, text: str) -> None:
    task = parse(raw)
    assert (task.skill, task.text.removeprefix(":").strip()) == (skill, text.removeprefix(":").strip())
    assert task.why.startswith(f"/{skill}: ")


@pytest.mark.parametrize(
    "raw", ["Please do not annotate a.csv", "expanded the query", "annotated papers.csv", "annotate well"]
)
def test_triggers_need_the_start_and_whole_words(raw: str) -> None:
    assert parse(raw).skill is None


def test_input_of_an_activated_task_is_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers.csv").write_text("")
    (tmp_path / "my papers.bib").write_text("")
    assert parse("annotate these abstracts in papers.csv, please --force save to o.csv").text == "papers.csv"
    assert parse('annotate the abstracts of papers.csv and "my papers.bib".').text == 'papers.csv "my papers.bib"'
    assert parse("annotate this abstract: https://arxiv.org/abs/2402.11651").text == "https://arxiv.org/abs/2402.11651"
    assert parse('annotate this abstract: "We call it "X" in papers.csv"').text == 'We call it "X" in papers.csv'
    assert parse("annotate the abstracts of missing.csv").text == "the abstracts of missing.csv"


def test_first_skill_wins_between_triggers() -> None:
    other = Known("other", ("annotate papers.csv",))
    assert parse_task("annotate papers.csv", (ANNOTATE, other)).skill == "annotate"
    assert parse_task("annotate papers.csv", (other, ANNOTATE)).skill == "other"


def test_trigger_wildcard_is_bounded() -> None:
    regex = trigger_regex("annotate * abstract*")
    assert regex.match("annotate " + "very " * 8 + "abstracts")
    assert not regex.match("annotate " + "very " * 9 + "abstracts")


def test_split_words_and_unquote() -> None:
    assert split_words("a.csv \"b c.csv\" 'd e' don't “f g”") == ["a.csv", "b c.csv", "d e", "don't", "f g"]
    assert unquote('"We propose "X" as a model"') == 'We propose "X" as a model'
    assert unquote('"a" and "b"') == '"a" and "b"'
    assert unquote("'tis so'") == "tis so"
    assert unquote('"') == '"'


def test_long_text_full_of_open_quotes_is_read_in_linear_time() -> None:
    text = "'word \"other " * 50_000
    assert parse(f"/annotate {text}").text == text.strip()
