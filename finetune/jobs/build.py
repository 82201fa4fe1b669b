"""Make the cloud scripts: each of source/*.py with all that it imports of this checkout in one file.

    python finetune/jobs/build.py [--check]

The modules are carried as they are, as text, and imported from there. A source names the files that it reads (FILES, paths
from the root) and the packages from PyPI that it needs (DEPENDENCIES, as PEP 723 has them). Only what a module imports at
its top comes along by itself; what it imports inside a function is named in ALSO, or is not needed in the cloud. The same
checkout gives the same bytes; --check writes nothing and says which scripts are not what the checkout would give (exit 1).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from harness.arguments import Parser, guarded
from harness.errors import Exit, InputError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OURS = ("finetune", "harness", "skills")
FILES_MODULE = "finetune.jobs.files"
SCRIPTS = ("sft", "grpo", "eval", "eval_common", "quantize")

LOADER = '''
class _Carried(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules that this file carries."""

    def find_spec(self, name, path=None, target=None):
        package = any(other.startswith(name + ".") for other in MODULES)
        if name not in MODULES and not package:
            return None
        return importlib.util.spec_from_loader(name, self, origin=f"carried/{name}", is_package=package)

    def exec_module(self, module):
        module.__file__ = f"carried/{module.__name__.replace('.', '/')}.py"
        exec(compile(MODULES.get(module.__name__, ""), module.__file__, "exec"), module.__dict__)


sys.meta_path.insert(0, _Carried())
'''


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write the scripts, or with ``--check`` compare them: exit 1 where one differs."""
    parser = Parser(prog="python finetune/jobs/build.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    args = parser.parse_args(argv)
    if args.check:
        old = stale()
        print("\n".join(f"finetune/jobs/{name}.py is not up to date: run build.py" for name in old) or "all up to date")
        return Exit.FAILED if old else Exit.DONE
    from harness.outputs import atomic_write

    for name in SCRIPTS:
        with atomic_write(HERE / f"{name}.py") as handle:
            handle.write(script(name))
        print(f"{name}.py: {(HERE / f'{name}.py').stat().st_size / 1000:.0f} kB")
    return Exit.DONE


def stale() -> list[str]:
    """The scripts that are not what the checkout would give."""
    return [
        name for name in SCRIPTS if not (path := HERE / f"{name}.py").is_file() or path.read_text("utf-8") != script(name)
    ]


def script(name: str) -> str:
    """The text of one script. Raises InputError where a source or what it names is missing."""
    text = _read(HERE / "source" / f"{name}.py")
    tree = _tree(text)
    named = _constants(tree)
    modules = carried([*imported(tree), *named.get("ALSO", ())])
    files = {path for source in (text, *modules.values()) for path in _constants(_tree(source)).get("FILES", ())}
    modules[FILES_MODULE] = files_module(sorted(files))
    doc = (ast.get_docstring(tree, clean=False) or "").replace("\\", "\\\\")
    body = text[_after_header(tree, text) :].lstrip("\n")
    dependencies = "".join(f'#     "{one}",\n' for one in named["DEPENDENCIES"])
    parts = "".join(f"    {key!r}: {_quoted(source)},\n" for key, source in sorted(modules.items()))
    return (
        f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n{dependencies}# ]\n# ///\n'
        f"# Made by finetune/jobs/build.py out of finetune/jobs/source/{name}.py: change that, then run build.py again.\n"
        f'# ruff: noqa\n# fmt: off\n# mypy: ignore-errors\n"""{doc}"""\n\nfrom __future__ import annotations\n\n'
        f"import importlib.abc\nimport importlib.util\nimport sys\n\n"
        f"MODULES = {{\n{parts}}}\n{LOADER}\n{body}"
    )


def carried(names: Iterable[str]) -> dict[str, str]:
    """The sources of our modules that ``names`` need at their top, by name. Empty packages are left out."""
    found: dict[str, str] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in found or name == FILES_MODULE:
            continue
        path = place(name)
        if path is None:
            raise InputError(f"{name}: no such module in the checkout", "correct the import")
        found[name] = _read(path)
        left += imported(_tree(found[name]))
    return {name: text for name, text in found.items() if _tree(text).body}


def imported(tree: ast.Module) -> Iterator[str]:
    """Our modules that a module imports at its top; what is only for the type checker does not count."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in OURS)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if place(name) else node.module for name in below)


def place(name: str) -> Path | None:
    """The file of one of our modules."""
    path = ROOT / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def files_module(paths: Iterable[str]) -> str:
    """A module that stands in for ``finetune.jobs.files`` and has the named files in it."""
    texts = "".join(f'    {path!r}: r"""{_read(ROOT / path)}""",\n' for path in paths)
    return f"FILES = {{\n{texts}}}\n\n\ndef text_of(path):\n    return FILES[path]\n"


@cache
def _tree(text: str) -> ast.Module:
    """Most modules are carried by several scripts."""
    return ast.parse(text)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """The upper-case tuples that a source assigns at its top."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id in ("DEPENDENCIES", "FILES", "ALSO")
    }


def _after_header(tree: ast.Module, text: str) -> int:
    """Where a source goes on behind its docstring and ``from __future__``."""
    last = [node for node in tree.body[:2] if isinstance(node, ast.Expr | ast.ImportFrom)][-1]
    return sum(len(line) for line in text.splitlines(keepends=True)[: last.end_lineno])


def _quoted(source: str) -> str:
    """A source as a raw string that can be read, or as a plain one where it holds what ends a raw string."""
    return repr(source) if "'''" in source or source.endswith("\\") else f"r'''{source}'''"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise InputError(f"{path}: cannot be read", "is this a whole checkout?") from None


if __name__ == "__main__":
    raise SystemExit(main())
