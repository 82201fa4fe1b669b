"""``completion bash|zsh|fish``: prints a script that completes commands, options and slash-commands in the shell."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Exit, UsageError

if TYPE_CHECKING:
    from harness.config import Settings

_OPTIONS = "--model --json --offline --workers --yes --verbose --no-log --version --help"
_BASH = """\
_marginalia() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(compgen -W "@WORDS@" -- "$word") $(compgen -f -- "$word"))
}
complete -o filenames -F _marginalia marginalia
"""
_ZSH = """\
#compdef marginalia
_marginalia() {
    local -a words_known=(@WORDS@)
    compadd -- $words_known
    _files
}
compdef _marginalia marginalia
"""
_FISH = """\
complete -c marginalia -a "@WORDS@"
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(argv: Sequence[str], settings: Settings) -> int:
    """Print the script for the shell that ``argv`` names. Raises UsageError for another one."""
    from harness.cli import COMMANDS
    from harness.config import home

    if len(argv) != 1 or argv[0] not in SCRIPTS:
        raise UsageError(
            f"completion {' '.join(argv)}".strip() + ": names no shell known here",
            'one of bash, zsh, fish; for bash: eval "$(marginalia completion bash)"',
        )
    words = " ".join(
        [
            *(name for name, there in COMMANDS.items() if there),
            *_OPTIONS.split(),
            *(f"/{name}" for name in skill_names(home())),
        ]
    )
    sys.stdout.write(SCRIPTS[argv[0]].replace("@WORDS@", words))
    return Exit.DONE


def skill_names(home: Path) -> list[str]:
    """The skills by their folders' names, without reading them; only names that are safe inside a shell script."""
    from harness.skill_files import FILE, is_name
    from harness.skills import skill_roots

    found = {path.parent.name for root, _ in skill_roots(home) for path in root.glob(f"*/{FILE}")}
    return sorted(filter(is_name, found))
