"""kill -9 at twenty random moments of a 300-row job, resumed each time: does it equal one uninterrupted run?

    python benchmarks/kill.py [--kills 20] [--rows 300] [--seed 7]

Everything is the command that a user types, with the bundled model and one worker. The files are compared byte for byte.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import report

from tests.kill_job import Job, kill_and_resume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        whole = Job(Path(name) / "whole", args.rows, "--workers", "1")
        if whole.finish() != 0:
            raise SystemExit(whole.errors())
        killed = Job(Path(name) / "killed", args.rows, "--workers", "1")
        held = kill_and_resume(killed, args.rows, args.kills, args.seed)
        same = killed.result.read_bytes() == whole.result.read_bytes()
        ids = [record["id"] for record in killed.records()]
        orphans = len(killed.processes())
    rows = [
        ["rows", args.rows, len(ids)],
        ["doubled", 0, len(ids) - len(set(ids))],
        ["equal to one run, byte for byte", True, same],
        ["processes left", 0, orphans],
        ["rows in the journal at each kill", "", " ".join(map(str, held))],
    ]
    result = {"rows": len(ids), "doubled": len(ids) - len(set(ids)), "same": same, "orphans": orphans, "held": held}
    report(f"{args.kills} × kill -9", ["", "promised", "found"], rows, result)


if __name__ == "__main__":
    main()
