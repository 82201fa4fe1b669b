"""``skills``: list them, ``skills validate DIR``, ``skills trust DIR|NAME``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Exit, InputError, UsageError

if TYPE_CHECKING:
    from harness.config import Settings

EXAMPLES = """examples:
  skills --json
  skills validate my-skills/translate    all its problems at once
  skills trust translate                 its code may run, as it is now"""


def main(argv: Sequence[str], settings: Settings) -> int:
    """Do the command. Exit 0, 1 where a validated skill has problems, 2 wrong usage."""
    from harness.arguments import Parser

    parser = Parser(prog="marginalia skills", description="The skills that can be used here.", epilog=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    commands = parser.add_subparsers(dest="command", metavar="validate DIR | trust DIR|NAME")
    check = commands.add_parser("validate", help="everything that is wrong with a skill folder")
    check.add_argument("folder", type=Path, metavar="DIR")
    allow = commands.add_parser("trust", help="let the code of a third-party skill run, as it is now")
    allow.add_argument("folder", metavar="DIR|NAME")
    options = parser.parse_args(list(argv))
    if options.command == "validate":
        return _validate(options.folder, as_json=options.json or settings.json)
    if options.command == "trust":
        return _trust(options.folder, as_json=options.json or settings.json)
    return _list(as_json=options.json or settings.json)


def _list(*, as_json: bool) -> int:
    from harness.config import home
    from harness.console import clean, show_records, show_table
    from harness.skills import find_skills

    skills, warnings = find_skills(home())
    for warning in warnings:
        sys.stderr.write(f"warning: {clean(warning)}\n")
    records = [
        {
            "name": skill.name,
            "description": skill.description,
            "source": skill.source,
            "folder": str(skill.file.folder),
            "kind": "code" if skill.file.has_code else "instruction",
            "runnable": skill.runnable,
        }
        for skill in skills
    ]
    if as_json:
        show_records(records)
    else:
        rows = [
            (f"/{skill.name}", _state(record), skill.description) for skill, record in zip(skills, records, strict=True)
        ]
        show_table(("skill", "from", "description"), rows)
    return Exit.DONE


def _state(record: Mapping[str, object]) -> str:
    kind = "" if record["kind"] == "code" else ", instruction"
    return f"{record['source']}{kind}{'' if record['runnable'] else ', not trusted'}"


def _validate(folder: Path, *, as_json: bool) -> int:
    from harness.console import clean, show_records
    from harness.skill_files import validate

    if not folder.is_dir():
        raise UsageError(f"{folder}: is not a folder", "name the folder that holds SKILL.md")
    problems = validate(folder)
    if as_json:
        show_records(asdict(problem) for problem in problems)
    else:
        sys.stdout.writelines(f"{clean(str(problem))}\n" for problem in problems)
    sys.stderr.write(f"{folder}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}\n")
    return Exit.FAILED if problems else Exit.DONE


def _trust(text: str, *, as_json: bool) -> int:
    from harness.config import home
    from harness.console import show_records
    from harness.skill_files import FILE
    from harness.skills import BUILT_IN, find_skills, get_skill
    from harness.trust import trust

    folder = Path(text)
    if not folder.is_dir():
        skill = get_skill(text, find_skills(home())[0])
        if skill.source == BUILT_IN:
            raise UsageError(f"{text} is built in", "it needs no trust")
        folder = skill.file.folder
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no {FILE}", "name the folder of one skill")
    digest = trust(folder, home())
    if as_json:
        show_records([{"trusted": str(folder.resolve()), "digest": digest}])
    else:
        sys.stderr.write(f"trusted: {folder.resolve()} with its files as they are now ({digest[:19]}…)\n")
    return Exit.DONE
