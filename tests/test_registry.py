"""The registry with real files, real processes and real kills."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.config import ROOT, Settings
from harness.errors import InputError, UsageError
from harness.locks import locked
from harness.registry import Entry, Gate, Gguf, normalise
from harness.registry_cli import main
from harness.registry_entry import read, to_toml
from harness.toml_writer import dumps

WEIGHTS = b"GGUF and some weights"


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A user's and a shipped registry, both empty."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "ROOT", tmp_path / "root")
    return list(registry.folders())


def make(folder: Path, tag: str, *, score: float = 0.8, status: Any = "candidate", **more: Any) -> Entry:
    entry = Entry(
        name=f"nanda-annotator:{tag}",
        task="annotate",
        contract="annotate/mark@1",
        status=status,
        gguf=Gguf(f"{tag}.gguf", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)),
        scores={"moves_dev": {"macro_f1": score}},
        gate=Gate("moves_dev", "macro_f1", 0.75),
    )
    entry = registry.write(replace(entry, **more), folder)
    (entry.folder / f"{tag}.gguf").write_bytes(WEIGHTS)
    return entry


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("x", "x:latest"),
        (" x:1b-q4_K_M ", "x:1b-q4_K_M"),
        ("someone/x", "someone/x:latest"),
        ("library/x", "x:latest"),
        ("registry.ollama.ai/library/x:8B", "x:8B"),
        ("registry.ollama.ai/someone/x", "someone/x:latest"),
        ("localhost:5000/a/x", "localhost:5000/a/x:latest"),
        ("hf.co/a/X.Y-gguf:Q8_0", "hf.co/a/X.Y-gguf:Q8_0"),
    ],
)
def test_names_are_ollamas(name: str, normal: str) -> None:
    assert normalise(name) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize("name", ["", ":", "x:", "../x", "a/../x", "..:latest", "x y", "/x", "a/b/c/d", "é", "-x"])
def test_what_is_not_a_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        normalise(name)


def test_toml_round_trips_whatever_is_in_it() -> None:
    dice = random.Random(3)
    alphabet = [
        '"',
        '""',
        '"""',
        "\\",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\x1b",
        "\x7f",
        "é",
        "🙂",
        "# a",
        "[x]",
        "a = 1",
        " ",
        "'",
    ]

    def text() -> str:
        return "".join(dice.choices(alphabet, k=dice.randrange(9)))

    def value(depth: int) -> Any:
        makers = [text, lambda: dice.randrange(-9, 9**20), lambda: dice.uniform(-1e9, 1e-9), lambda: dice.random() < 0.5]
        if depth:
            makers += [lambda: [value(depth - 1) for _ in range(3)], lambda: {text(): value(depth - 1) for _ in range(3)}]
        return dice.choice(makers)()

    for _ in range(500):
        values = {text(): value(3) for _ in range(4)}
        assert tomllib.loads(dumps(values)) == values
    with pytest.raises(TypeError):
        dumps({"x": None})


def test_an_entry_reads_back_as_it_was_written(where: list[Path]) -> None:
    entry = make(
        where[0],
        "v1",
        base="qwen3-mini",
        licence="MIT",
        description="marks moves",
        ollama="nanda-annotator:v1",
        lineage={"data": "sha256:00", "config": "sha256:11"},
        serving={"thresholds": {"claim": 0.4}, "stated": {"slope": 1.5, "novelty": -0.25}},
        template='{{ .Prompt }}\n"""\nFROM /etc/passwd\n',
        parameters={"stop": ["\n", "</annotation>"], "num_ctx": 2048, "temperature": 0.0},
    )
    assert registry.load(where[0]) == [entry]
    text = entry.file.read_text()
    assert to_toml(entry) == text
    assert entry.file == where[0] / "nanda-annotator" / "v1.toml"
    assert (entry.family, entry.score, entry.gguf_path) == ("nanda-annotator", 0.8, entry.folder / "v1.gguf")


def test_every_problem_is_named_at_once(where: list[Path]) -> None:
    good = make(where[0], "good")
    bad = where[0] / "x" / "bad.toml"
    bad.parent.mkdir()
    bad.write_text(
        'name = "x:bad"\ntask = "Annotate!"\nstatus = "served"\ncontract = "v2"\nlicense = "MIT"\n'
        '[gguf]\npath = "../../secret"\nsha256 = "abc"\nsize = "big"\n[scores.dev]\nf1 = nan\n[gate]\nset = "dev"\n'
    )
    (bad.parent / "torn.toml").write_text('name = "x:to')
    (bad.parent / "moved.toml").write_text(good.file.read_text())
    with pytest.raises(InputError) as caught:
        registry.load(where[0])
    message = str(caught.value)
    for part in (
        "bad.toml: task: 'Annotate!'",
        "status: 'served' is not a status; one of candidate, active, retired",
        "contract: 'v2'",
        "license: unknown key; known: base, contract",
        "gguf.path: '../../secret' leaves the entry's folder",
        "gguf.sha256: 'abc'",
        "gguf.size: 'big' is not a number of bytes",
        "scores.dev.f1: nan is not a finite number",
        "gate.metric: missing",
        "gate.minimum: missing",
        "torn.toml: cannot be read as TOML",
        "moved.toml: name: nanda-annotator:good belongs elsewhere",
    ):
        assert part in message, part
    entries, problems = registry.scan()
    assert entries == [good]
    assert len(problems) == 12
    with pytest.raises(InputError, match=r"torn\.toml"):
        registry.find("x:torn")


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "a/../../b", "C:\\x", "\\\\host\\x", "link/x.gguf"])
def test_a_path_never_leaves_the_folder_of_its_entry(where: list[Path], tmp_path: Path, path: str) -> None:
    entry = make(where[0], "v1")
    if os.name != "nt":
        (entry.folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leaves the entry's folder"):
        registry.write(replace(entry, gguf=Gguf(path, "0" * 64, 1)), where[0])
    assert read(entry.file)[0] == entry


def test_the_users_entry_hides_the_shipped_one(where: list[Path]) -> None:
    user, shipped = where
    make(shipped, "mini", description="shipped")
    make(shipped, "other", ollama="elsewhere:7b")
    make(user, "mini", description="mine")
    assert [entry.description for entry in registry.scan()[0]] == ["mine", ""]
    found = registry.find("NANDA-annotator:MINI")
    assert found is not None
    assert found.description == "mine"
    tagged = registry.find("elsewhere:7b")
    assert tagged is not None
    assert tagged.name == "nanda-annotator:other"
    assert registry.find("nothing") is None


def statuses() -> dict[str, str]:
    return {entry.name.partition(":")[2]: entry.status for entry in registry.scan()[0]}


def test_promotion_and_rollback(where: list[Path]) -> None:
    for tag in ("v1", "v2", "v3"):
        make(where[0], tag)
    registry.promote("nanda-annotator:v1")
    for tag in ("v2", "v3"):
        change = registry.promote(f"nanda-annotator:{tag}")
    assert change.retired == ("nanda-annotator:v2",)
    assert statuses() == {"v1": "retired", "v2": "retired", "v3": "active"}
    registry.rollback("annotate")
    assert statuses() == {"v1": "retired", "v2": "active", "v3": "retired"}
    registry.rollback("nanda-annotator:v2")
    assert statuses() == {"v1": "active", "v2": "retired", "v3": "retired"}
    with pytest.raises(UsageError, match="nothing to roll back"):
        registry.rollback("annotate")


def test_the_gate_says_what_is_short(where: list[Path]) -> None:
    make(where[0], "weak", score=0.7)
    make(where[0], "unmeasured", scores={})
    make(where[0], "free", gate=None)
    make(where[0], "torn")
    (where[0] / "nanda-annotator" / "torn.gguf").write_bytes(WEIGHTS[:-1] + b"?")
    for tag, says in (
        ("weak", "has macro_f1 on moves_dev of 0.7, its gate asks for 0.75"),
        ("unmeasured", "no score macro_f1 on moves_dev"),
        ("free", "no gate"),
        ("torn", "sha256 is"),
    ):
        with pytest.raises(InputError, match=says):
            registry.promote(f"nanda-annotator:{tag}")
    assert set(statuses().values()) == {"candidate"}
    with pytest.raises(UsageError, match="it has: nanda-annotator:free"):
        registry.promote("nothing")


def test_other_families_and_tasks_stay_served(where: list[Path]) -> None:
    make(where[0], "old", status="active")
    make(where[0], "new")
    make(where[0], "other-task", status="active", task="expand")
    registry.write(replace(make(where[0], "x"), name="else:x", gguf=None, ollama="else:x", status="active"), where[0])
    registry.promote("nanda-annotator:new")
    served = sorted(entry.name for entry in registry.scan()[0] if entry.status == "active")
    assert served == ["else:x", "nanda-annotator:new", "nanda-annotator:other-task"]


def test_what_a_kill_cut_short_is_finished_by_the_same_command(where: list[Path]) -> None:
    make(where[0], "v1", status="active")
    make(where[0], "v2", status="active", previous="nanda-annotator:v1")  # killed before v1 was retired
    registry.promote("nanda-annotator:v2")
    assert statuses() == {"v1": "retired", "v2": "active"}
    make(where[0], "v1", status="active", previous="nanda-annotator:v0")  # killed inside a rollback of v2
    registry.rollback("annotate")
    assert statuses() == {"v1": "active", "v2": "retired"}


def test_verify(where: list[Path]) -> None:
    entry = make(where[0], "v1")
    assert entry.gguf_path is not None
    assert registry.verify(entry) == []
    entry.gguf_path.write_bytes(WEIGHTS + b"!")
    assert f"{len(WEIGHTS) + 1} bytes instead of {len(WEIGHTS)}" in registry.verify(entry)[0]
    entry.gguf_path.unlink()
    assert "missing" in registry.verify(entry)[0]


def start(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_promote_at_once(where: list[Path]) -> None:
    for tag in ("a", "b", "c"):
        make(where[0], tag)
    code = (
        "import sys; from harness import registry; from pathlib import Path\n"
        "for n in range(25):\n for tag in sys.argv[2]: registry.promote('nanda-annotator:' + tag, [Path(sys.argv[1])])"
    )
    runs = [start(code, str(where[0]), tags) for tags in ("abc", "cab")]
    for run in runs:
        assert run.wait(60) == 0, run.communicate()
    served = [entry for entry in registry.load(where[0]) if entry.status == "active"]
    assert len(served) == 1
    assert served[0].previous in {"nanda-annotator:a", "nanda-annotator:b", "nanda-annotator:c"} - {served[0].name}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_while_writing_leaves_whole_entries_and_a_free_lock(where: list[Path]) -> None:
    make(where[0], "a", status="active", serving={"filler": "x" * 200_000})
    make(where[0], "b", serving={"filler": "y" * 200_000})
    code = (
        "import sys; from harness import registry; from pathlib import Path\nprint('up', flush=True)\n"
        "while True:\n for tag in 'ba': registry.promote('nanda-annotator:' + tag, [Path(sys.argv[1])])"
    )
    dice = random.Random(5)
    for _ in range(6):
        run = start(code, str(where[0]))
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.08))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        entries = registry.load(where[0])
        assert [len(entry.serving["filler"]) for entry in entries] == [200_000, 200_000]
        assert any(entry.status == "active" for entry in entries)
        with locked(where[0] / ".lock", seconds=1):
            pass
    registry.promote("nanda-annotator:a")
    registry.promote("nanda-annotator:b")
    assert statuses() == {"a": "retired", "b": "active"}


def test_a_lock_that_is_held_is_reported(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path), pytest.raises(InputError, match="another process has held the lock"), locked(path, seconds=0.1):
        pass
    with locked(path, seconds=0.1):
        pass


def test_command_line(where: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("v1", "v2"):
        make(where[0], tag)
    assert main(["promote", "nanda-annotator:v1"], Settings()) == 0
    assert main(["promote", "nanda-annotator:v2"], Settings()) == 0
    assert "nanda-annotator:v1 is retired" in capsys.readouterr().out
    assert main(["list"], Settings()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "task", "status", "score", "contract"]
    assert lines[2].split() == ["nanda-annotator:v2", "annotate", "active", "0.800", "annotate/mark@1"]
    assert main(["rollback", "annotate"], Settings(json=True)) == 0
    rolled = {"task": "annotate", "active": "nanda-annotator:v1", "retired": ["nanda-annotator:v2"]}
    assert json.loads(capsys.readouterr().out) == rolled
    assert main(["show", "nanda-annotator:v1"], Settings()) == 0
    assert tomllib.loads(capsys.readouterr().out)["status"] == "active"
    assert main(["list"], Settings(json=True)) == 0
    assert [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()] == ["active", "retired"]
    assert main([], Settings()) == 0
    assert "serve again what the last promotion replaced" in capsys.readouterr().out
    assert main(["verify"], Settings()) == 0
    (where[0] / "nanda-annotator" / "v2.gguf").unlink()
    assert main(["verify"], Settings()) == 1
    assert "v2.gguf: missing" in capsys.readouterr().out
    (where[0] / "nanda-annotator" / "v3.toml").write_text("name = 3\n")
    assert main(["list"], Settings()) == 1
    assert "v3.toml: name: 3 is not a string" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no model 'v9'"):
        main(["show", "v9"], Settings())
    with pytest.raises(UsageError, match="registry promote --help"):
        main(["promote"], Settings())


def test_promote_and_rollback_as_json_are_one_object(where: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for tag in ("v1", "v2"):
        make(where[0], tag)
        assert main(["promote", f"nanda-annotator:{tag}"], Settings(json=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"task": "annotate", "active": "nanda-annotator:v1", "retired": []},
        {"task": "annotate", "active": "nanda-annotator:v2", "retired": ["nanda-annotator:v1"]},
    ]
    assert main(["rollback", "annotate"], Settings(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["active"] == "nanda-annotator:v1"
