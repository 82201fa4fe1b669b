"""Checkpoints that can be trusted: each carries a manifest of its files and of the run it belongs to.

The manifest is written last: a folder without one, or whose files are not as listed, was cut short by a kill or a full
disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from finetune.hf_checkpoint import read_json
from finetune.run_config import RunConfig, changed, plain
from finetune.sft.base import digest
from harness.errors import InputError
from harness.outputs import atomic_write

MANIFEST = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path, config: RunConfig, lineage: Mapping[str, str], spent: Mapping[str, float]) -> None:
    """Write the manifest of a finished checkpoint; ``spent`` is what the run has used so far (seconds, tokens)."""
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    manifest = {"files": files, "config": plain(config), "lineage": dict(lineage), "spent": dict(spent)}
    with atomic_write(folder / MANIFEST) as handle:
        handle.write(json.dumps(manifest, indent=1) + "\n")


def fault(folder: Path) -> str:
    """What is wrong with a checkpoint, or an empty text."""
    if not (folder / MANIFEST).is_file():
        return "was not finished"
    try:
        files: dict[str, str] = read_json(folder / MANIFEST)["files"]
    except (InputError, KeyError):
        return f"has a damaged {MANIFEST}"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"lacks {name}"
        if digest(path) != expected:
            return f"has a truncated or changed {name}"
    return ""


def all_in(out: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first."""
    found = [(int(match[1]), path) for path in out.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def choose(
    out: Path, wanted: str, config: RunConfig, lineage: Mapping[str, str], say: Callable[[str], None]
) -> Path | None:
    """The checkpoint to go on from: none for ``""``, the newest sound one for ``auto``, else the folder that is named.

    ``auto`` passes over damaged ones, saying so. Raises InputError for a named one that is damaged, and for one of another
    base, other data or a configuration whose steps would be others.
    """
    if not wanted:
        return None
    folder = _newest(out, say) if wanted == "auto" else _named(Path(wanted), out)
    if folder:
        _check_same_run(folder, config, lineage)
    return folder


def _newest(out: Path, say: Callable[[str], None]) -> Path | None:
    for folder in all_in(out):
        if not (wrong := fault(folder)):
            return folder
        say(f"{folder} {wrong}: passed over")
    say(f"{out}: no checkpoint to go on from, starting at step 0")
    return None


def _named(folder: Path, out: Path) -> Path:
    if not folder.is_dir():
        there = ", ".join(path.name for path in all_in(out)[:5]) or "none"
        raise InputError(f"{folder}: no such checkpoint", f"in {out} there are: {there}; or use --resume auto")
    if wrong := fault(folder):
        raise InputError(f"{folder} {wrong}", "use --resume auto, which takes the one before")
    return folder


def _check_same_run(folder: Path, config: RunConfig, lineage: Mapping[str, str]) -> None:
    manifest = read_json(folder / MANIFEST)
    for name in ("base", "data"):
        if manifest["lineage"].get(name) != lineage[name]:
            what = "an adapter of another base" if name == "base" else "a run on other data"
            raise InputError(
                f"{folder}: belongs to {what}", "give what it was trained with, or start anew in another --out"
            )
    if names := changed(config, manifest["config"], config.may_change):
        then = ", ".join(f"{name} was {manifest['config'][name]}" for name in names)
        raise InputError(f"{folder}: belongs to another configuration ({then})", "use that, or start anew in another --out")


def spent(folder: Path) -> dict[str, float]:
    """What the run had used when it wrote a checkpoint."""
    values: dict[str, float] = read_json(folder / MANIFEST).get("spent", {})
    return values


def newest_sound(out: Path) -> Path | None:
    """The newest undamaged checkpoint, for messages."""
    return next((path for path in all_in(out) if not fault(path)), None)
