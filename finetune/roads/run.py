"""Run a road: plan, then each step as a process of its own, its record written before and after.

A step's process gives all its memory back when it ends, and dies with this one (on Linux at once, also of kill -9), so that
the same command can be given again at any moment: done steps are skipped, the stopped one goes on or starts over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.roads.steps import Plan, Records, Step, fingerprint, plan, reason
from harness.config import ROOT
from harness.errors import InputError, MarginaliaError
from harness.jobs.progress import duration
from harness.locks import locked

if TYPE_CHECKING:
    from rich.console import Console

PATIENCE = 60.0
"""Seconds that a step may take to end after Ctrl-C, for a last checkpoint."""
_POLL = 0.2
WORDS = {"skip": "skip", "run": "run", "resume": "go on", "maybe": "run if needed"}


class StepFailed(MarginaliaError):
    """A step ended with an error of its own, which stands above on stderr."""


def run_road(
    steps: Sequence[Step],
    folder: Path,
    console: Console,
    *,
    start: str = "",
    dry: bool = False,
    agree: Callable[[Sequence[Plan]], bool] = lambda plans: True,
) -> list[Plan]:
    """Show the plan, ask ``agree`` where something is to be done, do it; the plan. ``dry`` only shows it.

    Raises StepFailed, InputError (a missing input, another run of the same road), KeyboardInterrupt.
    """
    if start and start not in [step.name for step in steps]:
        raise InputError(f"there is no step {start!r}", f"the steps are {', '.join(step.name for step in steps)}")
    with locked(folder / ".lock", seconds=0.5):
        records = Records.load(folder / "road.json")
        plans = plan(steps, records, start=start)
        show(plans, console)
        if dry or all(item.state == "skip" for item in plans) or not agree(plans):
            return plans
        forced = False
        for number, step in enumerate(steps, 1):
            forced = forced or step.name == start
            state, why = ("run", "asked for by --from") if forced else reason(step, records)
            title = f"[{number}/{len(steps)}] {step.name}"
            if state == "skip":
                console.print(f"{title}: skipped, {why}", style="dim")
                continue
            console.print(f"{title}: {step.what} ({why})", style="bold")
            _go(step, records, console, resumes=state == "resume")
    return plans


def show(plans: Sequence[Plan], console: Console) -> None:
    """The plan as a table on stderr."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("step", "does", "now", "because", "takes"):
        table.add_column(column, overflow="fold")
    for item in plans:
        takes = "" if item.state == "skip" else "not known" if item.seconds is None else f"about {duration(item.seconds)}"
        style = "dim" if item.state == "skip" else ""
        table.add_row(item.step.name, item.step.what, WORDS[item.state], item.why, takes, style=style)
    console.print(table, soft_wrap=False, width=None if console.is_terminal else 160)
    todo = [item.seconds for item in plans if item.state != "skip"]
    if todo and None not in todo:
        console.print(f"all that is to be done: about {duration(sum(s for s in todo if s is not None))}")


def _go(step: Step, records: Records, console: Console, *, resumes: bool) -> None:
    """Run one step and keep its record. Raises StepFailed, KeyboardInterrupt (its record then says that it was begun)."""
    before = records.steps.get(step.name)
    now = fingerprint(step, records)
    records.steps[step.name] = {**now, "status": "begun", "seconds": (before or {}).get("seconds")}
    records.save()
    # What another run of the step may have left behind must not be taken for this one's.
    extra = step.resume if resumes else step.restart
    started = time.monotonic()
    code = run_child((*step.command, *extra))
    if code not in (0, *step.partly):
        remedy = "see what it says above; the same command goes on from here"
        raise StepFailed(f"step {step.name} ended with {code}", remedy)
    if missing := [path for path in step.outputs if not path.exists()]:
        raise StepFailed(f"step {step.name} ended without {missing[0]}", "this is a bug: please report it")
    seconds = time.monotonic() - started
    outputs = {str(path): records.digest(path) for path in step.outputs}
    ended = datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    records.steps[step.name] = {**now, "status": "done", "seconds": round(seconds, 1), "ended": ended, "outputs": outputs}
    records.save()
    console.print(f"{step.name}: {duration(seconds)}", style="dim")


def run_child(arguments: Sequence[str]) -> int:
    """Run Python with these arguments, its output on our own streams; the exit code (negative: the signal).

    It has a process group of its own, so that Ctrl-C reaches it once, from here, and it can end in order.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=2,  # results of a step are messages of the road
        env=environment,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    try:
        return process.wait()
    except BaseException:
        _stop(process)
        raise


def _die_with_parent() -> None:
    """Linux: the kernel kills this process when the one that started it ends, however that ends."""
    import ctypes

    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, int(signal.SIGKILL))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask once, wait, then insist."""
    with suppress(OSError):
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(KeyboardInterrupt):  # a second Ctrl-C must not leave it behind
            time.sleep(_POLL)
    if process.poll() is None:
        process.kill()
    process.wait()
