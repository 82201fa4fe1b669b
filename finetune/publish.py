"""Send an exported model to a Hugging Face repository: adapter, merged weights, GGUFs, Modelfile, reports and a card.

    python -m finetune.publish finetune_output --run finetune_output/annotator --repo you/nanda-annotator --dry-run

Nothing is sent unless this command is given without ``--dry-run``; a new repository is private unless ``--public``. The
token is the one that ``hf auth login`` has stored.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from finetune.hf_checkpoint import read_json
from finetune.sft.base import offline
from harness.arguments import guarded
from harness.errors import InputError, Offline, UsageError

AGAIN = "name the --out folder of python -m finetune.export"
PLAIN = ("Modelfile", "parity.json", "export.json", "serving.json")


class Hub(Protocol):
    """The two calls of ``huggingface_hub.HfApi`` that are used."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any:
        """Make the repository where it is missing."""
        ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any:
        """Send a folder as one commit."""
        ...


def files(out: Path, run: Path) -> Iterator[tuple[str, Path]]:
    """What is sent: the name in the repository and the file. Raises InputError for an export that is not whole."""
    report = read_json(out / "export.json", AGAIN)
    wanted = [(str(file["file"]), out / str(file["file"])) for file in report.get("files", [])]
    wanted += [(name, out / name) for name in PLAIN if (out / name).is_file()]
    for folder, place in (("adapter", run / "adapter"), ("merged", out / "merged")):
        wanted += [(f"{folder}/{path.name}", path) for path in sorted(place.glob("*")) if path.is_file()]
        if not place.is_dir():
            raise InputError(f"{place}: missing", "export the model first")
    for name, path in wanted:
        if not path.is_file() or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{out / 'export.json'}: names {name!r}, which is not there", "export the model again")
        yield name, path


def card(out: Path) -> str:
    """The model card: what the model is, how it compares with its checkpoint, where it comes from. Raises InputError."""
    report, parity = (read_json(out / name, AGAIN) for name in ("export.json", "parity.json"))
    try:
        return _card(report, parity)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{out / 'export.json'}: is not whole ({error})", "export the model again") from None


def _card(report: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    # JSON strings are YAML strings: a name or licence cannot add a line of its own
    front = {"license": report.get("licence") or "other", "library_name": "gguf", "tags": ["gguf", "ollama", "lora"]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", "", f"# {report['name']}", ""]
    lines += [f"Prompt contract `{report['contract']}`. Base: {report.get('base', 'see lineage')}.", "", "## Files", ""]
    lines += ["| file | type | MB | sha256 |", "|---|---|---|---|"]
    for file in report["files"]:
        lines.append(f"| `{file['file']}` | {file['type']} | {file['bytes'] / 1e6:.1f} | `{file['sha256']}` |")
    lines += ["", "`adapter/` is the LoRA adapter (PEFT), `merged/` the model in transformers' format.", ""]
    lines += ["## Compared with the merged checkpoint in transformers", ""]
    lines += ["| type | same likeliest token | same continuation | mean KL, nats |", "|---|---|---|---|"]
    for name, found in parity["types"].items():
        lines.append(f"| {name} | {found['top1']:.2%} | {found['greedy']:.0%} | {found['kl']:.6f} |")
    lines += ["", "## Use", "", f"    ollama create {report['name']} -f Modelfile", "", "## Lineage", ""]
    lines += [f"- {key}: `{value}`" for key, value in sorted(report["lineage"].items())]
    return "\n".join(lines) + "\n"


def publish(out: Path, run: Path, repo: str, hub: Hub, *, private: bool = True) -> list[str]:
    """Send everything as one commit and return the names. Raises InputError; then nothing was sent or all of it."""
    chosen = dict(files(out, run))
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch)
        for name, path in chosen.items():
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            try:
                place.symlink_to(path.resolve())
            except OSError:  # Windows asks for a privilege
                shutil.copyfile(path, place)
        (folder / "README.md").write_text(card(out), encoding="utf-8")
        try:
            hub.create_repo(repo, private=private, exist_ok=True)
            hub.upload_folder(repo_id=repo, folder_path=str(folder), commit_message="Export of Marginalia")
        except (OSError, ValueError) as error:  # huggingface_hub's errors are OSError or ValueError
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{repo}: the hub did not take it ({first})", "check the name, and log in: hf auth login"
            ) from None
    return ["README.md", *chosen]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when all is sent (or listed), else the error's own code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the export")
    parser.add_argument("--run", type=Path, required=True, help="the trainer's folder, which has adapter/")
    parser.add_argument("--repo", required=True, help="OWNER/NAME on huggingface.co")
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="list what would be sent")
    args = parser.parse_args(argv)
    if args.repo.count("/") != 1:
        raise UsageError(f"{args.repo!r} is not a repository", "write it as OWNER/NAME")
    if args.dry_run:
        card(args.out)
        for name, path in files(args.out, args.run):
            print(f"{path.stat().st_size / 1e6:10.1f} MB  {name}")
        return 0
    if offline():
        raise Offline("publishing needs the network", "unset HF_HUB_OFFLINE and MARGINALIA_OFFLINE")
    from huggingface_hub import HfApi

    sent = publish(args.out, args.run, args.repo, HfApi(), private=not args.public)
    print(f"{len(sent)} files are in https://huggingface.co/{args.repo}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
