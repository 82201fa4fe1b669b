"""CPU time of ``python agent.py --help`` beside that of Python itself.

    python benchmarks/help_time.py [--runs 40]

User and system time of each process, as the system counts it; the two alternate, medians count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from annotate_runs import median, span
from common import ROOT, report


def cpu_ms(*arguments: str) -> float:
    """CPU milliseconds of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    args = parser.parse_args()

    ours: list[float] = []
    bare: list[float] = []
    for _ in range(args.runs + 1):
        bare.append(cpu_ms("-c", "pass"))
        ours.append(cpu_ms("agent.py", "--help"))
    del ours[0], bare[0]  # the first one writes the byte code
    ratio = median(ours) / median(bare)
    rows = [
        ["CPU ms", span(ours), span(bare), ""],
        ["against Python itself", f"{ratio:.2f}×", "1×", "3× or less"],
    ]
    result = {"help_ms": round(median(ours), 1), "python_ms": round(median(bare), 1), "ratio": round(ratio, 2)}
    report("time of --help", ["", "agent.py --help", "python -c pass", "promised"], rows, {**result, "runs": args.runs})


if __name__ == "__main__":
    main()
