"""The road: what is skipped and why, kills and resumes, with small stand-in steps."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from finetune.roads.run import StepFailed, run_road
from finetune.roads.steps import Plan, Records, Step, plan
from harness.config import ROOT
from harness.errors import InputError

COPY = """
import pathlib, sys
source, target, *more = sys.argv[1:]
pathlib.Path(target).write_text(pathlib.Path(source).read_text().upper() + ' '.join(more))
"""
COUNT = """
import pathlib, sys, time
done = pathlib.Path(sys.argv[1])
log = pathlib.Path(sys.argv[2])
lines = done.with_suffix('.part')
start = len(lines.read_text().split()) if '--resume' in sys.argv and lines.exists() else 0
if not start:
    lines.write_text('')
log.write_text(log.read_text() + f'from {start}\\n' if log.exists() else f'from {start}\\n')
for number in range(start, 5):
    with lines.open('a') as handle:
        handle.write(f'{number} ')
    if number == 2 and start == 0 and len(sys.argv) > 3 and sys.argv[3] == 'slow':
        print('half', file=sys.stderr, flush=True)
        time.sleep(60)
lines.rename(done)
"""
"""Writes five numbers; with ``slow`` it hangs after three, with ``--resume`` it goes on from what is there."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copying(name: str, source: Path, target: Path, *more: str, **options: Any) -> Step:
    """A stand-in step: the input in capitals."""
    return Step(
        name, f"copy to {target.name}", ("-c", COPY, str(source), str(target), *more), (source,), (target,), **options
    )


def chain(place: Path) -> list[Step]:
    """Three steps, each from the one before, and one beside them."""
    source = place / "source.txt"
    if not source.exists():
        source.write_text("words ")
    one, two, three, other = (place / name for name in ("one.txt", "two.txt", "three.txt", "other.txt"))
    return [
        copying("one", source, one),
        copying("two", one, two),
        copying("other", source, other, "x"),
        copying("three", two, three),
    ]


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def go(steps: Sequence[Step], place: Path, **options: Any) -> list[str]:
    """Run; the states that the plan had."""
    return [item.state for item in run_road(steps, place / "road", console(), **options)]


def states(steps: Sequence[Step], place: Path, **options: Any) -> dict[str, Plan]:
    return {item.step.name: item for item in plan(steps, Records.load(place / "road" / "road.json"), **options)}


def test_a_second_run_does_nothing(place: Path) -> None:
    steps = chain(place)
    assert go(steps, place) == ["run"] * 4
    made = {path: path.stat().st_mtime_ns for step in steps for path in step.outputs}
    assert go(steps, place) == ["skip"] * 4
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert all(item.why.startswith("unchanged since 2") for item in states(steps, place).values())


def test_a_changed_input_runs_what_depends_on_it_and_no_more(place: Path) -> None:
    steps = chain(place)
    go(steps, place)
    (place / "one.txt").write_text("by hand")
    found = states(steps, place)
    assert (found["one"].state, found["one"].why) == ("run", f"{place / 'one.txt'} was changed by something else")
    assert (found["two"].state, found["other"].state, found["three"].state) == ("maybe", "skip", "maybe")
    before = (place / "two.txt").stat().st_mtime_ns
    go(steps, place)  # step one writes again what it wrote before, so the steps behind it have nothing to do
    assert (place / "two.txt").stat().st_mtime_ns == before
    (place / "source.txt").write_text("other words ")
    assert states(steps, place)["one"].why == f"{place / 'source.txt'} has changed"
    go(steps, place)
    assert (place / "three.txt").read_text() == "OTHER WORDS "
    assert go(steps, place) == ["skip"] * 4


def test_the_reason_names_what_changed(place: Path) -> None:
    steps = chain(place)
    go(steps, place)
    other = replace(steps[0], command=(*steps[0].command, "--limit=5"))
    assert states([other], place)["one"].why == "its command has changed: --limit=5"
    coded = replace(steps[0], code=("finetune/roads/steps.py",))
    assert states([coded], place)["one"].why == "finetune/roads/steps.py is new"
    (place / "two.txt").unlink()
    assert states(steps, place)["two"].why == f"{place / 'two.txt'} is missing"
    lost = copying("new", place / "gone.txt", place / "x")
    with pytest.raises(InputError, match=r"gone\.txt: missing, step new needs it"):
        states([*steps, lost], place)


def test_what_is_to_be_written_hides_no_other_reason(place: Path) -> None:
    steps = chain(place)
    go(steps, place)
    (place / "source.txt").write_text("changed")
    steps[1] = replace(steps[1], command=(*steps[1].command, "--more"))
    found = states(steps, place)
    assert (found["two"].state, found["two"].why) == ("run", "its command has changed: --more")
    assert (found["three"].state, found["three"].why) == ("maybe", f"if {place / 'two.txt'} changes")


def test_from_runs_a_step_and_those_behind_it(place: Path) -> None:
    steps = chain(place)
    go(steps, place)
    before = (place / "one.txt").stat().st_mtime_ns
    assert go(steps, place, start="other") == ["skip", "skip", "run", "run"]
    assert (place / "one.txt").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="there is no step 'x'; the steps are one, two, other, three"):
        go(steps, place, start="x")


def test_a_dry_run_and_a_no_write_nothing(place: Path) -> None:
    steps = chain(place)
    assert go(steps, place, dry=True) == ["run"] * 4
    assert go(steps, place, agree=lambda plans: False) == ["run"] * 4
    assert not (place / "one.txt").exists()
    assert not (place / "road" / "road.json").exists()


def test_the_plan_says_how_long_it_took(place: Path) -> None:
    steps = [replace(step, minutes=2) for step in chain(place)]
    told = console()
    run_road(steps, place / "road", told, dry=True)
    text = told.file.getvalue()  # type: ignore[attr-defined]
    assert "about 2 min 00 s" in text
    assert "all that is to be done: about 8 min 00 s" in text
    go(steps, place)
    assert all(item.seconds is not None and item.seconds < 100 for item in states(steps, place).values())


def test_a_step_that_fails_stops_the_road_and_is_told(place: Path) -> None:
    broken = Step("broken", "fail", ("-c", "raise SystemExit(3)"), (), (place / "x",))
    with pytest.raises(StepFailed, match="step broken ended with 3"):
        go([broken, *chain(place)], place)
    assert not (place / "one.txt").exists()
    assert states([broken], place)["broken"].state == "resume"
    silent = Step("silent", "write nothing", ("-c", "pass"), (), (place / "x",))
    with pytest.raises(StepFailed, match="ended without"):
        go([silent], place)
    partly = replace(copying("partly", place / "source.txt", place / "p"), partly=(1,))
    partly = replace(partly, command=("-c", COPY + "raise SystemExit(1)", *partly.command[2:]))
    assert go([partly], place) == ["run"]


def test_a_record_that_is_none_is_one_line(place: Path) -> None:
    (place / "road").mkdir()
    (place / "road" / "road.json").write_text("{")
    with pytest.raises(InputError, match=r"road\.json: is no record of a road"):
        go(chain(place), place)


# ---- kills ----

DRIVER = """
import sys
from pathlib import Path
from finetune.roads.run import run_road
from finetune.roads.steps import Step
from rich.console import Console
place = Path(sys.argv[1])
code = sys.argv[2]
step = Step("count", "count to five", ("-c", code, str(place / "done"), str(place / "log"), sys.argv[3]),
            (), (place / "done",), resume=("--resume",), restart=("--restart",))
print("pid", flush=True)
try:
    run_road([step], place / "road", Console(stderr=True))
except KeyboardInterrupt:
    raise SystemExit(130)
"""


def start_slow(place: Path) -> subprocess.Popen[str]:
    """A road in a process of its own, stopped in the middle of its step."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(place), COUNT, "slow"], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip() == "half":
            break
    return process


def count_step(place: Path, *, code: str = COUNT) -> Step:
    names = ("-c", code, str(place / "done"), str(place / "log"), "slow")
    return Step("count", "count to five", names, (), (place / "done",), resume=("--resume",), restart=("--restart",))


def gone(check: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return check()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_step_ends_with_the_road_and_goes_on(place: Path, how: signal.Signals) -> None:
    process = start_slow(place)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids = children.read_text().split() if children.exists() else []
    process.send_signal(how)
    code = process.wait(30)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    if sys.platform == "linux":
        assert len(pids) == 1
        assert gone(
            lambda: not Path(f"/proc/{pids[0]}").exists() or "Z" in Path(f"/proc/{pids[0]}/stat").read_text().split()[2]
        )
    assert not (place / "done").exists()
    assert go([count_step(place)], place) == ["resume"]
    assert (place / "done").read_text() == "0 1 2 3 4 "
    assert (place / "log").read_text() == "from 0\nfrom 3\n"
    assert go([count_step(place)], place) == ["skip"]


def test_a_step_that_was_stopped_and_then_changed_starts_over(place: Path) -> None:
    process = start_slow(place)
    process.kill()
    process.wait(30)
    changed = count_step(place, code=COUNT.replace("time.sleep(60)", "pass"))
    assert go([changed], place) == ["run"]
    assert (place / "log").read_text() == "from 0\nfrom 0\n"
    assert (place / "done").read_text() == "0 1 2 3 4 "


def test_two_roads_in_one_folder_exclude_each_other(place: Path) -> None:
    process = start_slow(place)
    try:
        with pytest.raises(InputError, match="another process has held the lock"):
            go([count_step(place)], place)
    finally:
        process.kill()
        process.wait(30)
