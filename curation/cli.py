"""``python curator.py``: options, files, exit codes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.arguments import Parser
from harness.errors import Exit, MarginaliaError, NoModelError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from curation.panel import Curated, Rules
    from curation.rows import Source
    from harness.config import Settings
    from harness.models.base import Model

HELP = """\
examples:
  python curator.py annotated.csv --out annotated_curated.csv --log curation_log.jsonl
  python curator.py annotated.jsonl --model qwen3:8b --quorum 4    a chat model votes, 4 of 5 must pass
  python curator.py annotated.csv --checks-only --stats            no model at all
  python curator.py --log curation_log.jsonl --stats --plot scores.html    look at an earlier log

Deterministic checks look first: what they find serious needs no model. Without a chat model they decide alone.
A run that was stopped goes on where it stopped: give the same command again.
exit: 0 all rows judged, 1 some could not be, 2 wrong usage, 3 the named model cannot run here, 130 interrupted"""
LOG = "curation_log.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code. Without ``argv`` unexpected exceptions become a crash file."""
    if argv is None:
        from harness import crash

        sys.excepthook = crash.hook
        argv = sys.argv[1:]
    try:
        return _main(argv)
    except MarginaliaError as error:
        return _fail(f"error: {error}", error.exit)
    except KeyboardInterrupt:
        return _fail("interrupted; what was judged is kept, the same command goes on from there", Exit.INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has left; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def _fail(line: str, code: Exit) -> int:
    from harness.console import clean

    sys.stderr.write(" ".join(clean(line).split("\n")) + "\n")
    return code


def parser() -> Parser:
    """The options."""
    made = Parser(
        prog="curator.py",
        description="Five personas vote on every annotation of a file; the rows that enough of them pass are kept.",
        epilog=HELP,
    )
    add = made.add_argument
    add("input", nargs="?", type=Path, help="what /annotate saved: .csv, .jsonl or .json")
    add("--out", type=Path, metavar="FILE", help="the kept rows, in the input's format (default: INPUT_curated)")
    add("--log", type=Path, metavar="FILE", help=f"every vote with its reason, JSONL (default: {LOG})")
    add("--quorum", type=int, default=3, metavar="N", help="keep a row that so many personas pass (3)")
    add("--threshold", type=float, default=3, metavar="S", help="a vote passes from this score on, 1 to 5 (3)")
    add("--model", metavar="NAME", help="the chat model that votes (default: the one that is here, if any)")
    add("--checks-only", action="store_true", help="ask no model, even where one is here")
    add("--personas", type=Path, metavar="FILE", help="other personas, a file like curation/personas.toml")
    add("--framework", type=Path, metavar="FILE", help="other moves, a file like skills/annotate/moves.toml")
    add("--column", action="append", default=[], metavar="FIELD=NAME", help="which column is abstract, title or id")
    add("--stats", action="store_true", help="print scores and shares per persona")
    add("--plot", type=Path, metavar="FILE", help="draw the scores per persona, as .html")
    add("--fresh", action="store_true", help="do not take votes and verdicts from the journal")
    add("--workers", type=int, metavar="N", help="rows at once (default: what the model can do)")
    add("--json", action="store_const", const=True, help="print the log's records (with --stats: the figures) as JSON")
    add("--offline", action="store_const", const=True, help="never use the network, whatever is asked for")
    add("--yes", action="store_const", const=True, help="overwrite files and save outside this folder without asking")
    add("-v", "--verbose", action="store_const", const=True, help="say why each row was not kept; show tracebacks")
    return made


def _main(argv: Sequence[str]) -> int:
    try:
        args = parser().parse_args(argv)
    except SystemExit:  # --help
        sys.stdout.flush()
        return Exit.DONE
    from harness.config import load_settings
    from harness.console import prepare_streams, stderr_console

    prepare_streams()
    names = ("model", "workers", "json", "offline", "yes", "verbose")
    settings = load_settings({name: getattr(args, name) for name in names})
    _check(args)
    if args.input is None:
        return _look_back(args, settings)
    return _curate(args, settings, stderr_console())


def _check(args: Namespace) -> None:
    """Raise UsageError for values that mean nothing."""
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers {args.workers}: not a number of rows", "give 1 or more")
    if not 1 <= args.threshold <= 5:
        raise UsageError(f"--threshold {args.threshold:g}: scores go from 1 to 5", "give one of them")
    if args.model and args.checks_only:
        raise UsageError("--model and --checks-only exclude each other", "leave one out")
    if args.plot is not None and args.plot.suffix.lower() != ".html":
        raise UsageError(f"{args.plot}: plots are written as .html", "name it so")
    if args.input is None and not (args.log and (args.stats or args.plot)):
        raise UsageError("nothing to curate", f"for example: curator.py annotated.csv --log {LOG}")


def _look_back(args: Namespace, settings: Settings) -> int:
    """Statistics and plot of a log that is there."""
    from curation.log import read_log
    from harness.outputs import check_target

    if args.plot:
        check_target(args.plot, yes=settings.yes)
    _show(args, read_log(args.log), settings)
    return Exit.DONE


def _curate(args: Namespace, settings: Settings, console: Console) -> int:
    from curation.log import write_log
    from curation.panel import curate
    from curation.personas import DEFAULT, load_panel
    from curation.rows import read_rows, write_rows
    from harness.config import home
    from skills.annotate.moves import DEFAULT as MOVES
    from skills.annotate.moves import load_framework

    panel, framework = load_panel(args.personas or DEFAULT), load_framework(args.framework or MOVES)
    if not 1 <= args.quorum <= len(panel.personas):
        raise UsageError(f"--quorum {args.quorum}: there are {len(panel.personas)} personas", "give 1 to that")
    source = read_rows(args.input, framework.names, _columns(args.column))
    out, log = _targets(args, source, settings)
    for note in source.notes:
        console.print(note)
    model = None if args.checks_only else _model(settings, console, named=bool(args.model))
    try:
        rules = _rules(args, panel, framework, model)
        workers = settings.workers or (model.slots if model else 1)
        found = curate(source.rows, rules, journal_path=home() / "journal.db", console=console, workers=workers)
    finally:
        if model is not None:
            model.close()
    write_rows(out, source, [source.rows[position] for position in found.kept], overwrite=settings.yes)
    write_log(log, found.records, overwrite=settings.yes)
    for line in summary(found, verbose=settings.verbose):
        console.print(line)
    console.print(f"saved {out} and {log}")
    _show(args, found.records, settings)
    return Exit.FAILED if found.unjudged else Exit.DONE


def _rules(args: Namespace, panel: Any, framework: Any, model: Model | None) -> Rules:
    from secrets import token_hex

    from curation.panel import Rules

    salt = token_hex(8) if args.fresh else ""
    return Rules(panel, framework, threshold=args.threshold, quorum=args.quorum, model=model, salt=salt)


def _columns(pairs: Sequence[str]) -> Mapping[str, str]:
    """``FIELD=NAME`` pairs. Raises UsageError."""
    from harness.readers.columns import check_given

    given = {}
    for pair in pairs:
        field, equals, name = pair.partition("=")
        if not (equals and field and name):
            raise UsageError(f"--column {pair}: not of the form FIELD=NAME", "for example --column abstract=body")
        given[field] = name
    check_given(given)
    return given


def _targets(args: Namespace, source: Source, settings: Settings) -> tuple[Path, Path]:
    """Where kept rows and log go, checked before any work begins. Raises UsageError."""
    from curation.rows import OUT
    from harness.outputs import check_target

    suffix = OUT[source.kind]
    out: Path = args.out or args.input.with_name(f"{args.input.stem}_curated{suffix}")
    log: Path = args.log or Path(LOG)
    if out.suffix.lower() != suffix:
        raise UsageError(f"{out}: kept rows have the input's format", f"name a {suffix} file")
    if log.suffix.lower() != ".jsonl":
        raise UsageError(f"{log}: the log is JSON Lines", "name a .jsonl file")
    paths = [out, log] + ([args.plot] if args.plot else [])
    if len({path.resolve() for path in (*paths, args.input)}) <= len(paths):
        raise UsageError("two of input, --out, --log and --plot are the same file", "name different ones")
    for path in paths:
        check_target(path, yes=settings.yes)
    return out, log


def _model(settings: Settings, console: Console, *, named: bool) -> Model | None:
    """The chat model that votes, or None (said on stderr) where there is none and none was named."""
    from harness.models.resolve import CHAT, open_choice, resolve

    try:
        # A model set as default for other tasks may be a fine-tune that cannot chat: only one named here must fit.
        choice = resolve(CHAT, settings if named else replace(settings, model=""), allow_general=True)
    except NoModelError as error:
        if named:
            raise
        console.print(f"no chat model is here, the deterministic checks decide alone (to have one vote: {error.remedy})")
        return None
    console.print(f"model: {choice.name} ({choice.backend}), {choice.why}", style="dim")
    return open_choice(choice, settings)


def summary(found: Curated, *, verbose: bool = False) -> list[str]:
    """What became of the rows, for people."""
    total, kept, failed = len(found.records), len(found.kept), found.count("failed")
    judged = total - failed
    share = f" ({kept / judged:.0%})" if judged else ""
    lines = [f"{kept} of {judged} annotations kept{share}, {found.count('rejected')} rejected"]
    if failed:
        lines.append(f"{failed} rows not judged, not kept: {_reasons(found)}")
    votes = ", ".join(f"{count} by {source}" for source, count in found.sources.most_common())
    if votes:
        lines.append(f"votes: {votes}")
    if found.failed_votes:
        lines.append(
            f"warning: {found.failed_votes} votes failed because the model's reply could not be read (see the log)"
        )
    if found.unjudged:
        lines.append("the same command goes on with the rows that could not be judged")
    if verbose:
        lines += [f"{record['id']}: {_why(record)}" for record in found.records if record["verdict"] != "kept"]
    return lines


def _reasons(found: Curated) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in found.summary.reasons.most_common(3))


def _why(record: Mapping[str, Any]) -> str:
    """Why a row was not kept."""
    against = dict.fromkeys(vote["reason"] for vote in record["votes"] if not vote["pass"])
    return record["error"] or " | ".join(against)


def _show(args: Namespace, records: Sequence[Mapping[str, Any]], settings: Settings) -> None:
    """Statistics, plot and JSON as asked for. Results go to stdout."""
    from curation.stats import by_check, stats_record, stats_rows
    from harness.console import show_records, show_table

    if args.plot:
        from curation.plot import draw
        from harness.outputs import atomic_write

        with atomic_write(args.plot, overwrite=settings.yes) as handle:
            handle.write(draw(records, f"Votes on {Path(args.input or args.log).name}"))
    if settings.json:
        show_records([stats_record(records)] if args.stats else records)
    elif args.stats:
        head, rows = stats_rows(records)
        show_table(head, rows, numbers=range(1, len(head)))
        if counts := by_check(records).most_common():
            show_table(["rejected by check", "rows"], [[name, str(count)] for name, count in counts], numbers=[1])
    sys.stdout.flush()
