"""The command line: options, commands, tasks, exit codes. Nothing heavier than argparse is imported before a task is known.

Exit: 0 done, 1 done in part or failed, 2 wrong usage, 3 no model can run this, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys

from harness import __version__
from harness.arguments import Parser
from harness.errors import Exit, MarginaliaError, UsageError

TYPE_CHECKING = False  # importing typing for it would cost a fifth of the time of --help
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.config import Settings

COMMANDS = {
    "skills": "harness.skills_cli:main",
    "models": "harness.models_cli:models_main",
    "registry": "harness.registry_cli:main",
    "corpus": "harness.corpus_cli:main",
    "log": "harness.log:main",
    "doctor": "harness.doctor:main",
    "web": "",
    "mcp": "",
    "completion": "harness.completion:main",
}
"""Command → the function that does it; empty: not in this version."""

OWN = ("harness", "skills", "finetune", "curation", "curator")
"""Our packages; any other that is missing is one to install."""

_HELP = """\
tasks:
  marginalia "/annotate papers.csv save to out.csv"    eight moves of each abstract, as a table
  cat abstract.txt | marginalia "/annotate"            the same for what is piped in, shown
  marginalia --json "/annotate papers.csv"             one JSON object a line
  marginalia "What is a rhetorical move?"              plain text goes to the chat model
  marginalia                                           a conversation

commands:
  marginalia skills                           what /NAME can be; skills validate DIR, skills trust DIR
  marginalia models                           what could serve each skill here; models install NAME
  marginalia registry                         the models that are registered, their scores and lineage
  marginalia corpus search limitation cost    all annotations made so far
  marginalia log --limit 5                    what was run; log show ID, log clear --before 2026-01-31
  marginalia doctor                           is everything in place, and if not, what to do
  marginalia web                              the browser front
  marginalia mcp                              the skills as MCP tools
  marginalia completion bash                  completion for the shell: bash, zsh, fish

"python agent.py" in a checkout is the same as "marginalia".
exit: 0 done, 1 failed or done in part, 2 wrong usage, 3 no model can run this, 130 interrupted"""
MISSING = tuple(f"  marginalia {name} " for name, function in COMMANDS.items() if not function)
HELP = "\n".join(line for line in _HELP.splitlines() if not line.startswith(MISSING))


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says and return the exit code.

    Without ``argv`` (a process of its own) an unexpected exception becomes one line and a crash file.
    """
    if argv is None:
        from harness import crash

        sys.excepthook = crash.hook
        argv = sys.argv[1:]
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        code = _main(argv)
        sys.stdout.flush()
    except MarginaliaError as error:
        return _fail(f"error: {error}", error.exit)
    except KeyboardInterrupt:
        return _fail("interrupted; what was finished is kept, the same command goes on from there", Exit.INTERRUPTED)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN:
            raise
        return _fail(f"error: the Python package {error.name} is not installed; pip install -e .", Exit.FAILED)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # the reader of our output has left
            return Exit.FAILED
        return _fail("error: the disk is full; free some space and repeat the command", Exit.FAILED)
    return code


def _fail(line: str, code: Exit) -> int:
    from harness.console import clean

    sys.stderr.write(" ".join(clean(line).split("\n")) + "\n")
    return code


def _options() -> Parser:
    """The options, which may stand before and after a task."""
    parser = Parser(prog="marginalia", add_help=False)
    add = parser.add_argument
    add("--model", metavar="NAME", help="the model to use instead of the registry's choice")
    add("--json", action="store_const", const=True, help="print records as JSON, one a line")
    add("--offline", action="store_const", const=True, help="never use the network, whatever is asked for")
    add("--workers", type=int, metavar="N", help="requests at once (default: what the model can do)")
    add("--yes", action="store_const", const=True, help="overwrite files and save outside this folder without asking")
    add(
        "-v",
        "--verbose",
        action="store_const",
        const=True,
        help="say more on stderr: failed rows, tokens, time, tracebacks",
    )
    add("--no-log", dest="log", action="store_const", const=False, help="do not log this run")
    return parser


def _parser() -> Parser:
    parser = Parser(
        prog="marginalia",
        parents=[_options()],
        usage='marginalia [options] ["TASK" | COMMAND …]',
        description="Annotates, searches and questions research papers with small models on this machine.",
        epilog=HELP,
    )
    parser.add_argument("--version", action="version", version=f"marginalia {__version__}")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _main(argv: Sequence[str]) -> int:
    try:
        parsed = _parser().parse_args(argv)
        _, words = _options().parse_known_args(parsed.rest, parsed)  # options behind the task count, too
    except SystemExit:  # --help and --version
        sys.stdout.flush()
        return Exit.DONE
    if parsed.workers is not None and parsed.workers < 1:
        raise UsageError(f"--workers {parsed.workers}: not a number of requests", "give 1 or more")
    given = {key: value for key, value in vars(parsed).items() if key != "rest"}

    from harness.config import load_settings
    from harness.console import prepare_streams

    prepare_streams()
    settings = load_settings(given)
    if words and words[0] in COMMANDS:
        return _command(words[0], words[1:], settings)
    _check_typo(words)
    return _task(join_words(words), settings)


def _check_typo(words: Sequence[str]) -> None:
    """Raises UsageError for a first word that is nearly a command: the chat model would be asked what ``doctr`` means."""
    if not words or words[0].startswith("/") or any(character.isspace() for character in words[0]):
        return
    from difflib import get_close_matches

    if near := get_close_matches(words[0].lower(), COMMANDS, n=1, cutoff=0.8):
        raise UsageError(
            f"unknown command {words[0]}; did you mean {near[0]}?", "put a question for the chat model in quotes"
        )


def _command(name: str, argv: Sequence[str], settings: Settings) -> int:
    from importlib import import_module

    module, _, function = COMMANDS[name].partition(":")
    if not module:
        raise UsageError(f"{name}: this version of marginalia does not have it yet", "see: marginalia --help")
    try:
        return int(getattr(import_module(module), function)(list(argv), settings))
    except SystemExit as leaving:  # the command's own --help
        return int(leaving.code or 0)


def join_words(words: Sequence[str]) -> str:
    """The task from the words of the shell. Of several, those with spaces in them get back the quotes they had.

    >>> join_words(["/annotate", "my papers.csv", "save", "to", "out.csv"])
    '/annotate "my papers.csv" save to out.csv'
    """
    if len(words) < 2:
        return "".join(words).strip()
    return " ".join([words[0], *(_quoted(word) for word in words[1:])]).strip()


def _quoted(word: str) -> str:
    if not any(character.isspace() for character in word):
        return word
    quote = next((mark for mark in "\"'" if mark not in word), "")
    return f"{quote}{word}{quote}"


def _task(task: str, settings: Settings) -> int:
    """Run a task, or what is piped in where that is one, or a conversation."""
    from harness.console import read_stdin, show_outcome, stdin_is_terminal

    stdin: Callable[[], str | None] | None = read_stdin
    if not task:
        if stdin_is_terminal():
            return _conversation(settings)
        task = (read_stdin() or "").strip()
        if not task.startswith("/"):
            raise UsageError(
                "no task" if not task else "the piped input is no task",
                'give one: marginalia "/annotate papers.csv", or marginalia --help',
            )
        stdin = None

    from harness.session import Session

    session = Session(settings)
    try:
        outcome = session.run(task, stdin=stdin, interactive=False)
    finally:
        session.close()
    show_outcome(outcome, as_json=settings.json)
    return int(outcome.exit)


def _conversation(settings: Settings) -> int:
    from harness.repl import run_repl
    from harness.session import Session

    session = Session(settings)
    try:
        return run_repl(session)
    finally:
        session.close()
