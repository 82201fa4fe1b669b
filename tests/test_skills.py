"""SKILL.md read, checked, found, trusted and loaded; real folders."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness import skills_cli
from harness.config import ROOT, Settings
from harness.errors import InputError, UsageError
from harness.skill_files import read_skill, validate
from harness.skills import InstalledSkill, find_skills, get_skill, skill_roots
from harness.trust import folder_hash, is_trusted, trust

GOOD = "---\nname: {name}\ndescription: Greets. Use to greet.\n---\n\nBe kind.\n"
CODE = """from harness.skills import Outcome
from harness.task import Flag
from . import words
FLAGS = (Flag("loud", "louder"),)
def run(task, context):
    return Outcome(text=words.HELLO + task.text)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, a user and a working folder of its own."""
    for name in ("home", "user", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    return tmp_path / "home"


def make(root: Path, name: str, text: str = GOOD, code: str = "") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(text.replace("{name}", name), encoding="utf-8")
    if code:
        (folder / "skill.py").write_text(code, encoding="utf-8")
        (folder / "words.py").write_text('HELLO = "hello "\n', encoding="utf-8")
    return folder


def lines(folder: Path) -> list[tuple[int, str]]:
    return [(problem.line, problem.text) for problem in validate(folder)]


def test_a_good_skill(tmp_path: Path) -> None:
    text = """---
name: {name}
description: >
  Greets people.
  Use to greet.
license: MIT
allowed-tools: Read Write
metadata:
  marginalia-triggers: "greet *; say hello to *;"
  version: "1.0"
---
# Greet

---
A rule above is text.
"""
    folder = make(tmp_path, "greet-people", text, CODE)
    file, problems = read_skill(folder)
    assert file is not None
    assert problems == []
    assert (file.name, file.description, file.has_code) == ("greet-people", "Greets people. Use to greet.", True)
    assert file.triggers == ("greet *", "say hello to *")
    assert file.body == "# Greet\n\n---\nA rule above is text."
    assert validate(folder) == []


def test_validate_lists_every_problem_at_once_with_its_line(tmp_path: Path) -> None:
    text = f"""---
name: Bad--Name
description: "{"x" * 1025}"
colour: red
compatibility: "{"y" * 501}"
license: 2.0
metadata:
  version: 1.0
  marginalia-triggers: "* *; Do *"
description: twice
---
"""
    folder = make(tmp_path, "other", text, "def run(task, context:\n")
    path = folder / "SKILL.md"
    found = [str(problem) for problem in validate(folder)]
    expected = {
        f"{path}:2: name 'Bad--Name': 1-64 of a-z, 0-9 and single hyphens between them",
        f"{path}:2: name 'Bad--Name' is not the folder's ('other')",
        f"{path}:4: unknown key 'colour' (own keys go inside metadata; known: allowed-tools, compatibility, "
        "description, license, metadata, name)",
        f"{path}:5: compatibility has 501 characters, at most 500 are allowed",
        f"{path}:6: license must be a text (put it in quotes)",
        f"{path}:8: metadata version: key and value must be texts (put them in quotes)",
        f"{path}:9: trigger '* *' would activate on anything",
        f"{path}:9: trigger 'Do *' must be in lower case",
        f"{path}:10: description stands here twice",
        f"{folder / 'skill.py'}:1: not Python: '(' was never closed",
    }
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("no frontmatter", 1, "must begin with a line ---"),
        ("---\nname: x\n", 2, "not closed"),
        ("---\n- a\n---\nx", 2, "not a list of key: value"),
        ("---\nname: [x\n---\nx", 2, "not YAML"),
        ("---\nname: x\ndescription: a: b\n---\nx", 3, "not YAML"),
        ("---\nname: !!python/object/apply:os.system ['true']\n---\nx", 2, "not YAML"),
        ("---\nname: x\ndescription: 2024-13-45\n---\nx", 2, "not YAML"),
        ("---\na: " + "[" * 500_000 + "\n---\nx", 2, "brackets"),
        ("---\na: " + "[" * 450 + "\n---\nx", 2, "not YAML"),
        ("---\n---\nx", 2, "not a list of key: value"),
    ],
)
def test_what_is_no_skill_file(tmp_path: Path, text: str, line: int, message: str) -> None:
    folder = make(tmp_path, "x", text)
    (found,) = validate(folder)
    assert found.line == line
    assert message in found.text
    assert read_skill(folder)[0] is None


def test_missing_values_and_files(tmp_path: Path) -> None:
    assert [text for _, text in lines(make(tmp_path, "a", "---\nlicense: MIT\n---\n"))] == [
        "name is missing",
        "description is missing",
        "no instructions after the frontmatter and no skill.py",
    ]
    assert lines(make(tmp_path, "b", "---\nname: b\ndescription: ''\n---\nx")) == [(3, "description is empty")]
    assert lines(make(tmp_path, "c", code="x = 1\n")) == [(1, "defines no FLAGS"), (1, "defines no run")]
    (tmp_path / "d").mkdir()
    assert "cannot be read" in lines(tmp_path / "d")[0][1]
    (make(tmp_path, "e") / "SKILL.md").write_bytes(b"---\nname: e\ndescription: \xff\n---\nx")
    assert lines(tmp_path / "e") == [(3, "not UTF-8")]


def test_lenient_load_takes_the_folders_name(tmp_path: Path) -> None:
    file, problems = read_skill(make(tmp_path, "greet", GOOD.replace("{name}", "Greet Them!")))
    assert file is not None
    assert file.name == "greet"
    assert len(problems) == 2


def test_project_beats_user_built_in_beats_all_and_collisions_are_told(home: Path) -> None:
    make(Path(".agents/skills").absolute(), "greet", GOOD.replace("Greets.", "Project."))
    make(Path.home() / ".agents/skills", "greet")
    make(home / "skills", "part")
    make(home / "skills", "_hidden")
    (home / "skills/broken").mkdir()
    (home / "skills/broken/SKILL.md").write_text("nothing")
    builtin = make(home / "shipped", "part", GOOD.replace("Greets.", "Shipped."))
    roots = ((builtin.parent, "built-in"), *skill_roots(home)[1:])
    skills, warnings = find_skills(home, roots)
    assert [(skill.name, skill.source, skill.description.split()[0]) for skill in skills] == [
        ("part", "built-in", "Shipped."),
        ("greet", "project", "Project."),
    ]
    assert len(warnings) == 3
    assert sum("is hidden by the one in" in warning for warning in warnings) == 2
    assert any("must begin with a line ---" in warning for warning in warnings)
    assert skill_roots(home)[0] == (ROOT / "skills", "built-in")


def installed(name: str, home: Path) -> InstalledSkill:
    return get_skill(name, find_skills(home)[0])


def test_code_of_others_runs_only_once_trusted_and_unchanged(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(Path(".agents/skills").absolute(), "greet-all", code=CODE)
    skill = installed("greet-all", home)
    assert (skill.runnable, skill.flags) == (False, ())
    with pytest.raises(UsageError, match="is not trusted") as caught:
        skill.load()
    assert f'skills trust "{folder}"' in str(caught.value)

    assert skills_cli.main(["trust", "greet-all"], Settings()) == 0
    assert "trusted" in capsys.readouterr().err
    assert [flag.name for flag in skill.flags] == ["loud"]
    task, context = type("Task", (), {"text": "you"})(), None
    assert skill.load().run(task, context).text == "hello you"  # type: ignore[arg-type]
    assert is_trusted(folder, home), "running it must not change its files"

    (folder / "words.py").write_text('HELLO = "evil "\n')
    assert not installed("greet-all", home).runnable
    assert skills_cli.main(["trust", str(folder)], Settings()) == 0
    assert installed("greet-all", home).runnable


def test_instructions_need_no_trust(home: Path) -> None:
    make(home / "skills", "kind")
    skill = installed("kind", home)
    assert skill.runnable
    assert skill.load().FLAGS == ()


@pytest.mark.parametrize(
    "code", ["import no_such_module_at_all", "x = 1 / 0", "def", "FLAGS = ()", "run = print\nFLAGS = []"]
)
def test_broken_code_is_one_clear_line(home: Path, code: str) -> None:
    folder = make(home / "skills", f"broken{abs(hash(code))}", code=code)
    trust(folder, home)
    with pytest.raises(InputError, match=r"skill\.py"):
        installed(folder.name, home).load()


def test_hash_sees_names_contents_and_compiled_files_but_not_git(tmp_path: Path) -> None:
    folder = make(tmp_path, "greet", code=CODE)
    seen = {folder_hash(folder)}
    (folder / ".git").mkdir()
    (folder / ".git/index").write_text("x")
    assert folder_hash(folder) in seen
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/skill.pyc").write_bytes(b"evil")
    seen.add(folder_hash(folder))
    (folder / "words.py").rename(folder / "other.py")
    seen.add(folder_hash(folder))
    assert len(seen) == 3
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="symbolic link"):
        folder_hash(folder)


def test_damaged_trust_file_trusts_nothing(home: Path) -> None:
    folder = make(home / "skills", "greet", code=CODE)
    trust(folder, home)
    (home / "trust.json").write_text("{broken")
    assert not is_trusted(folder, home)
    trust(folder, home)
    assert is_trusted(folder, home)


def test_command_lists_and_validates(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "skills", "greet", GOOD.replace("Greets.", "Greets\\u2068."), CODE)
    assert skills_cli.main(["--json"], Settings()) == 0
    record = {entry["name"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}["greet"]
    assert (record["source"], record["kind"], record["runnable"]) == ("user", "code", False)
    assert skills_cli.main([], Settings()) == 0
    assert "/greet\tuser, not trusted\tGreets" in capsys.readouterr().out
    assert skills_cli.main(["validate", str(home / "skills/greet")], Settings()) == 0
    (home / "skills/greet/SKILL.md").write_text("---\n---\n")
    assert skills_cli.main(["validate", str(home / "skills/greet")], Settings()) == 1
    assert capsys.readouterr().out.startswith(f"{home}/skills/greet/SKILL.md:2: ")
    assert skills_cli.main(["validate", str(home / "skills/greet")], Settings(json=True)) == 1
    problems = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(problem["path"], problem["line"]) for problem in problems} >= {(f"{home}/skills/greet/SKILL.md", 2)}


@pytest.mark.parametrize("argv", [["validate", "nowhere"], ["trust", "nothing"], ["dance"], ["validate"]])
def test_command_refuses_wrong_usage(home: Path, argv: list[str]) -> None:
    with pytest.raises(UsageError):
        skills_cli.main(argv, Settings())


def test_shipped_skills_are_valid(home: Path) -> None:
    for folder in sorted(path.parent for path in (ROOT / "skills").glob("*/SKILL.md")):
        assert validate(folder) == []


def test_trust_as_json_is_one_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(Path(".agents/skills").absolute(), "greet-all", code=CODE)
    assert skills_cli.main(["trust", "greet-all"], Settings(json=True)) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["trusted"], err) == (str(folder.resolve()), "")
    assert told["digest"] == folder_hash(folder)
