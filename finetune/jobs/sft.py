# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "accelerate>=1.15",
#     "datasets>=4",
#     "peft>=0.21",
#     "pyyaml>=6",
#     "torch>=2.6",
#     "transformers>=5",
#     "trl>=1.16,<2",
# ]
# ///
# Made by finetune/jobs/build.py out of finetune/jobs/source/sft.py: change that, then run build.py again.
# ruff: noqa
# fmt: off
# mypy: ignore-errors
"""Supervised fine-tuning of /expand's model in the cloud, by TRL, with the values of finetune/configs/qmd-sft.yaml.

    hf jobs uv run --flavor a10g-large --secrets HF_TOKEN --timeout 2h finetune/jobs/sft.py

Data is a data set on the hub made of what finetune/dataset/prepare_data.py wrote; the adapter goes to a private
repository. Both are found by the name of whoever HF_TOKEN belongs to, unless --data and --push say otherwise.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys

MODULES = {
    'finetune.jobs.files': r'''FILES = {
    'finetune/configs/qmd-sft.yaml': r"""# /expand's model on Qwen3-1.7B, with the values of QMD's published recipe. Needs a CUDA device.
base: Qwen/Qwen3-1.7B
contract: expand@1
data: finetune_output/expansion/train
out: finetune_output/qmd-1.7B/sft

quantize: none
precision: auto
device_map: auto

lora_r: 16
lora_alpha: 32
lora_dropout: 0.0
lora_targets: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
lora_bias: none

batch: 16
micro_batch: 4
max_length: 512
epochs: 5
learning_rate: 2.0e-4
scheduler: cosine
warmup_steps: 0.03

save_steps: 200
eval_steps: 200
logging_steps: 10
report_to: none
seed: 42
""",
    'finetune/evals/queries.txt': r"""# Queries for finetune/eval.py expand, written for this project: none of them may stand in training data.
# A heading gives the category of the queries below it; /expand reads this file, too, and takes these lines for comments.

# category: technical
zfs snapshot send incremental over ssh
mutex versus spinlock in userspace
graphql n+1 query batching
webassembly linear memory growth
postgres partial index on jsonb key
systemd socket activation for a daemon
tls session resumption tickets
erlang supervisor restart strategy
grpc deadline propagation between services
bloom filter false positive rate sizing
linux cgroup memory pressure notifications
zero downtime schema migration large table

# category: short
quorum
tokenizer
backpressure
invoices
ablation
turnstile
sharding
orchids
perplexity
garden hose
late fusion
rate cap

# category: named entities
OpenTelemetry collector tail sampling
Zoe Marchetti thesis draft chapter 2
Qdrant versus LanceDB for on-device search
Hotel Aurora booking in Trieste
NetHack learning environment leaderboard
BRCA2 variant of uncertain significance
SQLAlchemy 2.0 typed mapped columns
Northwind Dairy supplier contract
ROUGE-L agreement with human judges
Raspberry Pi 5 NVMe boot order
Mistral tokenizer compared with Tekken
HIPAA rules for research notebooks

# category: personal
notes from my call with the landlord about the damp wall
what did the vet say about the limp
packing list for the hut tour in the Dolomites
birthday present ideas I wrote down for my sister
where did I save the scan of the rental contract
questions for the parents evening at the nursery
my running pace in the autumn half marathon
which paint did we use for the hallway
list of books I lent to friends
garden plan for the raised beds
minutes of the allotment society
my reading notes on stoicism

# category: research
sparse autoencoders for interpreting language models
speculative decoding acceptance rate
retrieval augmented generation citation faithfulness
graph neural network oversmoothing
calibration of confidence under distribution shift
self-play training of negotiation agents
low rank adaptation versus full fine-tuning forgetting
synthetic data model collapse
protein language models zero-shot fitness prediction
benchmark saturation and construct validity
causal abstraction of neural networks
human preference data annotator disagreement

# category: errors
segfault when freeing a pointer twice
pip says externally managed environment
cuda out of memory although the batch fits
ssl certificate verify failed behind a proxy
ORA-01555 snapshot too old
npm ERESOLVE unable to resolve dependency tree
permission denied publickey on git push
kernel panic unable to mount root filesystem
pandas SettingWithCopyWarning on assignment
nvidia-smi has failed because it could not communicate
disk quota exceeded while compiling
UnicodeDecodeError invalid start byte in csv

# category: temporal
papers on agents published this spring
what happened at the last board meeting
releases since version 3.11
electricity prices over the past winter
trends in open weight models during 2025
deadline of the workshop in December
changes to the tax form this year
when was the boiler serviced last
upcoming conferences on digital libraries
how has inference cost fallen since 2022
yesterday's deployment incident
long-term weather records for the valley

# category: complex
how can a small team evaluate retrieval quality without paying for relevance judgements
why does fine-tuning on one narrow task make a model worse at following unrelated instructions
steps to move a photo library from a phone to a home server without losing dates and albums
which statistical test compares two rankers on the same queries when scores are not normal
how do I design an apartment rental agreement when two flatmates leave at different times
trade-offs between chunk size and overlap when searching long technical reports
ways to keep a sourdough routine going while travelling for work every other week
how to detect that a benchmark's answers leaked into pretraining when the corpus is not public
what to check before buying an old stone house with a cellar that floods in spring
compare event sourcing with change data capture for auditing a payments system
how to explain variance of a random forest to a clinician who distrusts black boxes
reduce the tail latency of a service that calls three slow dependencies in sequence

# category: quoted
"lost in the middle" long context
"permission denied" docker socket
"attention is all you need" reproduction
review of "The Left Hand of Darkness"
"exactly once" delivery in message queues
grant proposal "work package 3"
"mixture of depths" routing
"no space left on device" inodes
translation of "Waldeinsamkeit"
"grokking" modular arithmetic
"segmentation fault (core dumped)" numpy
"minimum description length" prior

# category: negation
jaguar habitat -car -football
mercury toxicity -planet
python decorators -snake
apple harvest storage -iphone
transformer oil testing -attention -language
seal leak repair -animal
agents in chemistry labs -estate
cluster headache triggers -kubernetes
bank erosion on rivers -loan
mouse model of obesity -keyboard
crane migration route -construction
diffusion of gases -image

# category: only
consistent hashing with virtual nodes /only:lex
negotiating a salary raise by mail /only:lex
Cassandra compaction strategies /only:lex
contrastive pretraining of sentence encoders /only:lex
how tides power a mill /only:vec
vector clocks in distributed systems /only:vec
Bergamo to Lugano by train /only:vec
layer normalization placement /only:vec
growing chanterelles in a forest garden /only:hyde
raft leader election timeout /only:hyde
Marie's recipe for plum cake /only:hyde
instruction tuning data quality /only:hyde
""",
}


def text_of(path):
    return FILES[path]
''',
    'finetune.jobs.source.cloud': r'''"""What the training scripts share: names on the hub, data from there, results to there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AUTO = "auto"
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


def hub_name(given: str, usual: str) -> str:
    """A repository; ``auto`` is the one of that name of whoever HF_TOKEN belongs to."""
    if given != AUTO:
        return given
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return f"{HfApi().whoami()['name']}/{usual}"
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SystemExit(f"error: nobody is logged in ({error}): give --secrets HF_TOKEN, or full names") from None


def data_folder(given: str) -> Path:
    """A data folder with train.jsonl and valid.jsonl: on disk, or a data set on the hub."""
    folder = Path(given)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(hub_name(given, "qmd-query-expansion-data"), repo_type="dataset"))
    if missing := [name for name in ("train.jsonl", "valid.jsonl") if not (folder / name).is_file()]:
        raise SystemExit(f"error: {given}: lacks {missing[0]}: make it with finetune/dataset/prepare_data.py")
    return folder


def model_folder(given: str, usual: str = "") -> Path:
    """A model or adapter: on disk, or on the hub."""
    folder = Path(given)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(hub_name(given, usual), allow_patterns=_MODEL_FILES))
    return folder


def push(folder: Path, given: str, usual: str) -> None:
    """Put a folder into a model repository of the hub; ``none`` leaves it where it is."""
    if given == "none":
        print(f"kept in {folder}")
        return
    from huggingface_hub import HfApi

    name = hub_name(given, usual)
    HfApi().create_repo(name, private=True, exist_ok=True)
    HfApi().upload_folder(repo_id=name, folder_path=str(folder), ignore_patterns=["checkpoint-*", "*.pt"])
    print(f"https://huggingface.co/{name}")


def load(base: str, *adapters: str) -> tuple[Any, Any]:
    """Model and tokenizer of a base with adapters merged into it, one after another."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cuda = torch.cuda.is_available()
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if cuda else torch.float32)
    for adapter in adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.to("cuda" if cuda else "cpu"), AutoTokenizer.from_pretrained(base)
''',
    'finetune.jobs.source.eval_common': r'''"""What the cloud scripts of /expand share: queries, prompts, scores, a table. By itself it scores a file of expansions.

    python finetune/jobs/eval_common.py expansions.jsonl

A line of the file has "query" and "output" ([[type, text], …]) or "text" (what a model wrote).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from finetune.jobs.files import text_of
from finetune.rewards.qmd_score import score
from finetune.rewards.qmd_words import EXCELLENT
from skills.expand.prompt import END, HEAD, INSTRUCTION, TAIL, parse_query, render_prompt

DEPENDENCIES = ()
FILES = ("finetune/evals/queries.txt",)

DIMENSIONS = ("format", "diversity", "hyde", "quality", "entity", "think")
Row = dict[str, Any]


def our_queries() -> list[tuple[str, str]]:
    """Category and text of the queries in finetune/evals/queries.txt."""
    found, category = [], ""
    for line in text_of(FILES[0]).splitlines():
        if heading := re.fullmatch(r"#\s*category:\s*(.+)", line.strip()):
            category = heading[1].strip()
        elif line.strip() and not line.startswith("#"):
            found.append((category, line.strip()))
    return found


def prompt_of(query: str) -> str:
    """The whole prompt of contract expand@1 for what a user typed."""
    return render_prompt(parse_query(query))


def trained(row: Row) -> dict[str, str]:
    """Prompt and completion, as a model sees them, of a row that prepare_data.py wrote."""
    asked = row["prompt"][-1]["content"]
    if not asked.startswith(INSTRUCTION):
        raise SystemExit(f"error: {asked[:60]!r} is no prompt of contract expand@1: prepare the data with prepare_data.py")
    return {"prompt": HEAD + asked.removeprefix(INSTRUCTION) + TAIL, "completion": row["completion"] + END}


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                raise SystemExit(f"error: {path} line {number}: is no JSON") from None


def scored(query: str, text: str, category: str = "") -> Row:
    """The points of one expansion by the published rubric."""
    found = score(query, text)
    return {
        "query": query,
        "category": category,
        "text": text,
        "percentage": round(found.percentage, 1),
        "rating": found.rating,
        **dict(zip(DIMENSIONS, found.points, strict=True)),
        "reasons": list(found.reasons),
    }


def table(rows: Sequence[Row]) -> str:
    """Mean and count of excellent ones by category, then of all."""
    lines = [f"{'category':16}{'queries':>8}{'mean %':>8}{'80+':>6}"]
    names = [name for name in dict.fromkeys(row["category"] for row in rows) if name]
    for name in (*names, ""):
        some = [row for row in rows if not name or row["category"] == name]
        mean = sum(row["percentage"] for row in some) / len(some)
        excellent = sum(row["percentage"] >= EXCELLENT for row in some)
        lines.append(f"{name or 'all':16}{len(some):8}{mean:8.1f}{excellent:6}")
    return "\n".join(lines)


def text_in(row: Row) -> str:
    """The expansion of a row of a file."""
    return str(row["text"]) if "text" in row else "\n".join(f"{kind}: {text}" for kind, text in row["output"])


def report(rows: Iterable[Row], out: Path | None, *, verbose: bool = False) -> list[Row]:
    """Print the table, with ``verbose`` every query; write all as JSON where ``out`` is given."""
    found = list(rows)
    if not found:
        raise SystemExit("error: there is nothing to score")
    print(table(found))
    for row in found if verbose else ():
        print(f"\n{row['percentage']:5.1f}%  {row['query']}\n{row['text']}\n  " + "\n  ".join(row["reasons"]))
    if out:
        out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Score a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="JSONL of expansions")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write all as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every query")
    parser.add_argument("--dry-run", action="store_true", help="show the queries and a prompt, and stop")
    args = parser.parse_args(argv)
    if args.dry_run or args.file is None:
        queries = our_queries()
        print(json.dumps({"queries": len(queries), "prompt": prompt_of(queries[0][1])}))
        return 0 if args.dry_run else 2
    report((scored(row["query"], text_in(row)) for row in read_rows(args.file)), args.out, verbose=args.verbose)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
''',
    'finetune.rewards.qmd_measure': r'''"""QMD's rubric, the part that takes the time: one look at an output and its query gives all counts that decide the points.

Nearly all of a reward's time goes here, so lines of both types are read in one loop without a call a line. The peer of
``benchmarks/reward_speed.py`` has a function a rule instead and takes more than twice as long.
"""

from __future__ import annotations

from typing import NamedTuple

from finetune.rewards.qmd_text import Query, alike, lex_is_generic, naming, word_repetition_penalty
from finetune.rewards.qmd_words import NATURAL_LENGTH, PREFIXES


class EntityFacts(NamedTuple):
    """Counts of one output for a query that names entities."""

    lex_naming: int
    """Lex lines that hold one."""
    vec_naming: int
    lost: tuple[str, ...]
    """Entities in no lex or vec line."""
    generic: int
    """Lex lines that say next to nothing."""


class Facts(NamedTuple):
    """Counts of one output for one query, all types asked for."""

    lex: int
    """Lines."""
    lex_length: int
    """Characters of all lines."""
    lex_alike: int
    """Pairs of lines that are not diverse."""
    lex_echoes: int
    """Lines that echo the query."""
    lacking: int
    """Lex lines without a key term of the query."""
    padded: int
    """Lex lines with padding that the query does not use."""
    quoted: bool
    """Whether a lex line has a quotation mark."""
    vec: int
    vec_length: int
    vec_alike: int
    vec_echoes: int
    unnatural: int
    """Vec lines of one word or few characters."""
    passage: str | None
    """The first hyde line."""
    repeated: int
    """Points that its repeated words cost."""
    entities: EntityFacts | None
    """None where the query names none."""


Counts = tuple[int, int, int, int, int, int, bool, int, int, int, int, int, str | None, int, EntityFacts | None]
"""The fields of ``Facts``, unnamed: a reward needs no names, and making them takes time."""


def measure(text: str, asked: Query) -> Counts | str:
    """All counts of a cleaned output, or its first line of no type.

    In lower case each line is compared with the query and with the earlier lines of its type. The words of a vec line are
    not needed for more than that, so they are only made where ``alike`` must have them.
    """
    _, query, distance, limit, _, key_terms, _, filler = asked
    lex: list[tuple[str, set[str]]] = []
    vec: list[str] = []
    lex_length = lex_alike = lex_echoes = lacking = padded = vec_length = vec_alike = vec_echoes = unnatural = 0
    passage = None
    for line in text.split("\n"):
        kind = line[:4]
        if kind == "lex:":
            body = line[4:].strip()
            lower = body.lower()
            words = set(lower.split())
            lex_length += len(body)
            if key_terms and key_terms.isdisjoint(words):
                lacking += 1
            if not filler.isdisjoint(words):
                padded += 1
            if len(lower) < limit and query in lower:
                lex_echoes += 1
            room = len(words) - distance
            for other, others in lex:
                if room + len(others) < 2 * len(words & others) or lower in other or other in lower:
                    lex_alike += 1
            lex.append((lower, words))
        elif kind == "vec:":
            body = line[4:].strip()
            lower = body.lower()
            vec_length += len(body)
            if len(body) <= NATURAL_LENGTH or " " not in body:
                unnatural += 1
            if len(lower) < limit and query in lower:
                vec_echoes += 1
            for other in vec:
                if alike(lower, other, distance):
                    vec_alike += 1
            vec.append(lower)
        elif line[:5] == "hyde:":
            if passage is None:
                passage = line[5:].strip()
        elif line := line.strip():
            if line.startswith(PREFIXES):  # white space before the type, which is rare
                return measure("\n".join([line.strip() for line in text.split("\n")]), asked)
            return line
    quoted = '"' in text and any('"' in lower for lower, _ in lex)
    entities = _entity_facts([lower for lower, _ in lex], vec, asked.entities) if asked.entities else None
    return (
        len(lex), lex_length, lex_alike, lex_echoes, lacking, padded, quoted,
        len(vec), vec_length, vec_alike, vec_echoes, unnatural,
        passage, word_repetition_penalty(passage) if passage else 0, entities,
    )  # fmt: skip


def _entity_facts(lex: list[str], vec: list[str], entities: tuple[str, ...]) -> EntityFacts:
    """What the lines, in lower case, keep of the query's entities."""
    written = " ".join(lex + vec)
    lost = tuple([entity for entity in entities if entity not in written])
    return EntityFacts(naming(lex, entities), naming(vec, entities), lost, sum(map(lex_is_generic, lex)))
''',
    'finetune.rewards.qmd_only': r'''"""QMD's rubric where one type is asked for (``/only:lex``): 120 points, no cap on echoes. The rules are in SCORING.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from finetune.rewards.qmd_points import THINK, Points
from finetune.rewards.qmd_text import Kind, Parsed, Query, alike, lex_is_generic, naming
from finetune.rewards.qmd_words import HYDE_LONG, HYDE_SHORT, NATURAL_LENGTH


class OnlyFacts(NamedTuple):
    """Counts of an output with at least one line of the type asked for."""

    lines: int
    unwanted: int
    """Lines of other types."""
    alike: int
    """Pairs of lines that are not diverse."""
    echoes: int
    """Lines that echo the query."""
    lacking: bool
    """Whether a lex line has no key term of the query."""
    generic: bool
    """Whether a lex line says next to nothing."""
    padded: int
    """Lex lines with padding that the query does not use."""
    unnatural: bool
    """Whether a vec line is no natural language."""
    passage: int | None
    """Characters of the first line, where hyde is asked for."""
    nameless: int
    """Lines without an entity of the query; 0 where it has none."""


def measure_only(asked: Query, only: Kind, parsed: Parsed) -> OnlyFacts:
    """All counts that decide the points."""
    texts = parsed[only]
    lowers = [text.lower() for text in texts]
    pairs = echoes = padded = 0
    lacking = generic = unnatural = False
    for position, lower in enumerate(lowers):
        if len(lower) < asked.echo_limit and asked.lower in lower:
            echoes += 1
        for other in lowers[:position]:
            if alike(lower, other, asked.distance):
                pairs += 1
    if only == "lex":
        words = [lower.split() for lower in lowers]
        lacking = bool(asked.key_terms) and any(map(asked.key_terms.isdisjoint, words))
        generic = any(map(lex_is_generic, lowers))
        padded = len(words) - sum(map(asked.filler.isdisjoint, words))
    elif only == "vec":
        unnatural = any(len(text) <= NATURAL_LENGTH or " " not in text for text in texts)
    lines = len(texts)
    unwanted = len(parsed["lex"]) + len(parsed["vec"]) + len(parsed["hyde"]) - lines
    passage = len(texts[0]) if only == "hyde" else None
    nameless = lines - naming(lowers, asked.entities) if asked.entities else 0
    return OnlyFacts(lines, unwanted, pairs, echoes, lacking, generic, padded, unnatural, passage, nameless)


def points_only(facts: OnlyFacts, asked: Query, thought: bool) -> Points:
    """The points of one output; quality has no lower limit."""
    shape = max(0, 30 - 10 * facts.unwanted)
    diversity = 15 if facts.lines == 1 else 30 - min(15, 5 * facts.alike)
    quality = 20 - 5 * (facts.lacking + facts.generic + facts.unnatural) - 3 * facts.padded
    if facts.passage is not None:
        quality -= _misfit(facts.passage)
    entity = 10
    if asked.entities:
        entity = 20 if not facts.nameless else 15 if facts.nameless < facts.lines else 0
    return Points(shape, max(0, diversity - 5 * facts.echoes), 0, quality, entity, 0 if thought else THINK)


def _misfit(length: int) -> int:
    """What a passage of so many characters costs."""
    return 0 if HYDE_SHORT <= length <= HYDE_LONG else 5 if 30 <= length <= 300 else 10


def reasons_only(facts: OnlyFacts, points: Points, asked: Query) -> Iterator[str]:
    """A line for each deduction; those of a dimension add up to what is missing of it."""
    if facts.unwanted:
        yield f"format -{30 - points.format}: {facts.unwanted} line(s) of a type not asked for"
    left = 30
    for most, reason in (
        (15 if facts.lines == 1 else 0, "one line"),
        (min(15, 5 * facts.alike), "{} pair(s) of lines alike"),
        (5 * facts.echoes, "{} line(s) echo the query"),
    ):
        if lost := min(most, left):
            left -= lost
            yield f"diversity -{lost}: {reason.format(lost // 5)}"
    if facts.lacking:
        yield "quality -5: a lex line without a key term"
    if facts.generic:
        yield "quality -5: a generic lex line"
    if facts.padded:
        yield f"quality -{3 * facts.padded}: {facts.padded} lex line(s) with padding"
    if facts.unnatural:
        yield "quality -5: a vec line in no natural language"
    if facts.passage is not None and _misfit(facts.passage):
        yield f"quality -{_misfit(facts.passage)}: passage of {facts.passage} characters"
    if facts.nameless:
        yield f"entity -{20 - points.entity}: {facts.nameless} line(s) without {' or '.join(asked.entities)}"
    if not points.think:
        yield f"think -{THINK}: thoughts before the answer"
''',
    'finetune.rewards.qmd_points': r'''"""QMD's rubric, the part that gives points for counts, and that says where points were lost. Both follow SCORING.md.

The oddities are upstream's and are kept, since scores are to be compared with published ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from finetune.rewards.qmd_measure import Counts, EntityFacts, Facts
from finetune.rewards.qmd_words import HYDE_LONG, HYDE_SHORT

THINK = 20
"""Points for no thoughts before the answer."""
MOST, MOST_WITH_HYDE = 120, 140


class Points(NamedTuple):
    """The dimensions of the rubric; ``entity`` may be negative, and ``diversity`` and ``quality`` too."""

    format: int
    diversity: int
    hyde: int
    quality: int
    entity: int
    think: int


def points_of(counts: Counts, several: bool, thought: bool) -> tuple[int, int, int, int, int, int]:
    """The points of one output, in the order of ``Points``; ``several``: the query has two words or more."""
    (lex, lex_length, lex_alike, lex_echoes, lacking, padded, quoted,
     vec, vec_length, vec_alike, vec_echoes, unnatural, passage, repeated, entities) = counts  # fmt: skip
    shape, diversity, quality = 10, 0, 5
    if lex and vec:
        shape, diversity = 30, 15
        if lex_length / lex <= vec_length / vec:
            quality = 10
    elif lex or vec:
        shape, diversity = 20, 5 if lex + vec > 1 else 0
    if lex:
        quality += (5 if not lacking else 2 if lacking < lex else 0) - 3 * padded
        if quoted and several:
            quality += 3
    if vec:
        quality += 2 if unnatural else 5
    diversity += 10 if not lex_alike + vec_alike else max(0, 5 - 2 * lex_alike) + max(0, 5 - 2 * vec_alike)
    diversity += 5 if not lex_echoes + vec_echoes else max(-10, 5 - 10 * lex_echoes - 3 * vec_echoes)
    hyde = 0
    if passage is not None:
        length = len(passage)
        hyde = 10 if length > HYDE_LONG else 12 if length < HYDE_SHORT else 15
        if repeated < 5:
            hyde += 5 - repeated
    entity = 10 if entities is None else _entity(entities, lex)
    return shape, diversity, hyde, quality, entity, 0 if thought else THINK


def _entity(found: EntityFacts, lex: int) -> int:
    """20 at most, with no lower limit."""
    if not lex:
        return 0
    points = 15 if found.lex_naming == lex else 5 if found.lex_naming else -30
    return points - 20 * len(found.lost) - 15 * found.generic + (5 if found.vec_naming else 0)


def reasons(facts: Facts, thought: bool) -> Iterator[str]:
    """A line for each deduction: the dimension, the points, and why. They add up to what is missing of each dimension."""
    for kind, lines in (("lex", facts.lex), ("vec", facts.vec)):
        if not lines:
            yield f"format -10: no {kind} line"
    if not (facts.lex and facts.vec):
        yield "diversity -10: lex and vec are not both there"
    if facts.lex + facts.vec < 2:
        yield "diversity -5: fewer than two lines"
    for kind, alike in (("lex", facts.lex_alike), ("vec", facts.vec_alike)):
        if alike:
            yield f"diversity -{min(5, 2 * alike)}: {alike} pair(s) of {kind} lines alike"
    if facts.lex_echoes or facts.vec_echoes:
        lost = min(15, 10 * facts.lex_echoes + 3 * facts.vec_echoes)
        yield f"diversity -{lost}: {facts.lex_echoes} lex and {facts.vec_echoes} vec line(s) echo the query"
    yield from _passage_reasons(facts)
    yield from _quality_reasons(facts)
    if facts.entities is not None:
        yield from _entity_reasons(facts.entities, facts.lex)
    if thought:
        yield f"think -{THINK}: thoughts before the answer"


def _passage_reasons(facts: Facts) -> Iterator[str]:
    if facts.passage is None:
        return
    length = len(facts.passage)
    if length > HYDE_LONG:
        yield f"hyde -5: too long ({length} characters)"
    elif length < HYDE_SHORT:
        yield f"hyde -3: too short ({length} characters)"
    if facts.repeated:
        yield f"hyde -{min(5, facts.repeated)}: repeats words"


def _quality_reasons(facts: Facts) -> Iterator[str]:
    if not (facts.lex and facts.vec):
        lost = 10 if facts.lex or facts.vec else 15
        yield f"quality -{lost}: no lex or no vec to judge"
    elif facts.lex_length / facts.lex > facts.vec_length / facts.vec:
        yield "quality -5: lex longer than vec"
    if facts.unnatural:
        yield f"quality -3: {facts.unnatural} vec line(s) in no natural language"
    if facts.lacking:
        yield f"quality -{3 if facts.lacking < facts.lex else 5}: {facts.lacking} lex line(s) without a key term"
    if facts.padded:
        yield f"quality -{3 * facts.padded}: {facts.padded} lex line(s) with padding"


def _entity_reasons(found: EntityFacts, lex: int) -> Iterator[str]:
    if not lex:
        yield "entity -20: no lex line to hold the query's entities"
        return
    if found.lex_naming < lex:
        lost = 10 if found.lex_naming else 45
        yield f"entity -{lost}: {lex - found.lex_naming} lex line(s) without an entity of the query"
    if found.lost:
        yield f"entity -{20 * len(found.lost)}: lost {', '.join(found.lost)}"
    if found.generic:
        yield f"entity -{15 * found.generic}: {found.generic} generic lex line(s)"
    if not found.vec_naming:
        yield "entity -5: no vec line names an entity"
''',
    'finetune.rewards.qmd_score': r'''"""QMD's rubric as a whole: from a query and a model's output to points, percentage, rating and reward."""

from __future__ import annotations

from typing import NamedTuple

from finetune.rewards import qmd_words as rules
from finetune.rewards.qmd_measure import Facts, measure
from finetune.rewards.qmd_only import measure_only, points_only, reasons_only
from finetune.rewards.qmd_points import MOST, MOST_WITH_HYDE, Points, points_of, reasons
from finetune.rewards.qmd_text import Kind, Query, clean_model_output, parse_expansion, read_query

NO_POINTS = Points(0, 0, 0, 0, 0, 0)
PASSAGE = Facts._fields.index("passage")
FAILED_MOST = 100
"""What a failed output is said to be out of."""


class Score(NamedTuple):
    """The points of one expansion and what follows from them."""

    points: Points
    total: int
    """Their sum, not below 0 where all types are asked for; it may pass ``max_possible``."""
    max_possible: int
    percentage: float
    """0 to 100, not rounded; at most 50 where a lex line echoes the query."""
    reasons: tuple[str, ...]
    """A line for each deduction."""
    entities: tuple[str, ...]
    """The query's named entities, in lower case."""
    only: Kind | None
    """The one type that was asked for."""

    @property
    def failed(self) -> bool:
        """Whether the output could not be scored at all."""
        return self.points is NO_POINTS

    @property
    def rating(self) -> str:
        """The percentage in a word."""
        if self.percentage >= rules.EXCELLENT:
            return "Excellent"
        if self.percentage >= rules.GOOD:
            return "Good"
        if self.percentage >= rules.ACCEPTABLE:
            return "Acceptable"
        return "Poor" if self.percentage >= rules.POOR else "Failed"

    @property
    def reward(self) -> float:
        """0 to 1, as training gets it. The cap on echoes does not hold here: upstream's reward has none."""
        return max(0.0, min(1.0, self.total / self.max_possible))


def reward(query: str, expansion: str) -> float:
    """``score(query, expansion).reward``, without what only people want to know."""
    text, thought = clean_model_output(expansion)
    asked = read_query(query)
    if "<|" in text:
        return score(query, expansion).reward  # it may leak chat tokens
    if asked.only:
        parsed = parse_expansion(text)
        if parsed["invalid"] or not parsed[asked.only]:
            return 0.0
        share = sum(points_only(measure_only(asked, asked.only, parsed), asked, thought)) / MOST
    else:
        counts = measure(text, asked)
        if isinstance(counts, str):
            return 0.0
        share = sum(points_of(counts, asked.several, thought)) / (MOST if counts[PASSAGE] is None else MOST_WITH_HYDE)
    return 0.0 if share < 0 else 1.0 if share > 1 else share


def score(query: str, expansion: str) -> Score:
    """The points of a model's output for a query, which may end with ``/only:TYPE``."""
    text, thought = clean_model_output(expansion)
    asked = read_query(query)
    for token in rules.CHAT_TOKENS:
        if token in text:
            return _failed(f"leaks the chat template: {token.strip()}", asked)
    if asked.only:
        return _score_only(asked, asked.only, text, thought)
    counts = measure(text, asked)
    if isinstance(counts, str):
        return _failed(f"a line of no type: {counts[:50]}", asked)
    facts = Facts._make(counts)
    points = Points._make(points_of(counts, asked.several, thought))
    most = MOST if facts.passage is None else MOST_WITH_HYDE
    percentage = max(0.0, min(100.0, sum(points) / most * 100))
    why = tuple(reasons(facts, thought))
    if facts.lex_echoes:
        percentage = min(percentage, rules.ECHO_CAP)
        why = (f"at most {rules.ECHO_CAP:.0f}%: {facts.lex_echoes} lex line(s) echo the query", *why)
    return Score(points, max(0, sum(points)), most, percentage, why, asked.entities, None)


def _failed(reason: str, asked: Query) -> Score:
    return Score(NO_POINTS, 0, FAILED_MOST, 0.0, (reason,), (), asked.only)


def _score_only(asked: Query, only: Kind, text: str, thought: bool) -> Score:
    parsed = parse_expansion(text)
    if parsed["invalid"]:
        return _failed(f"a line of no type: {parsed['invalid'][0][:50]}", asked)
    if not parsed[only]:
        return _failed(f"no {only} line, which was asked for", asked)
    facts = measure_only(asked, only, parsed)
    points = points_only(facts, asked, thought)
    why = reasons_only(facts, points, asked)
    percentage = max(0.0, min(100.0, sum(points) / MOST * 100))
    return Score(points, sum(points), MOST, percentage, tuple(why), asked.entities, only)
''',
    'finetune.rewards.qmd_text': r'''"""QMD's rubric, the part that reads texts: lines of an output, and what a query asks to be kept.

Everything that depends on the query alone is found once and kept (``read_query``): in GRPO several completions of one query
are scored in a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict, cast

from finetune.rewards.qmd_words import (
    ECHO_MARGIN,
    FILLER,
    GENERIC_PHRASES,
    GENERIC_REST,
    LONG_QUERY,
    NO_KEY_TERM,
    QUERY_VERBS,
    REPEATABLE,
)

Kind = Literal["lex", "vec", "hyde"]


class Parsed(TypedDict):
    """The texts of an output by type, and the lines that have none."""

    lex: list[str]
    vec: list[str]
    hyde: list[str]
    invalid: list[str]


class Query(NamedTuple):
    """What the rubric wants to know about a query."""

    only: Kind | None
    """The type that a trailing ``/only:TYPE`` asks for."""
    lower: str
    """Without that suffix, in lower case, as echoes are compared with."""
    distance: int
    """By how many words two lines must differ to be diverse."""
    echo_limit: int
    """A line that holds the query and has fewer characters echoes it."""
    several: bool
    """Whether it has two words or more."""
    key_terms: frozenset[str]
    entities: tuple[str, ...]
    """Named entities in lower case, sorted."""
    filler: frozenset[str]
    """Padding words that the query itself does not use."""


_ONLY = re.compile(r"\s+/only:(lex|vec|hyde)\s*$", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_WORD = re.compile(r"\w+")
_LOWER_WORDS = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or code == ord("_") else ord(" ") for code in range(128)
).ljust(256)
"""Translates ASCII: letters to lower case, all that is in no word, and what is not ASCII, to spaces."""
_ASCII = bytes(range(128))
_MARKS = "–—‘’“”…°×·•→′″€£≤≥±"
"""The usual characters beyond ASCII that are no letters."""
_FREE_BYTES: frozenset[Any] = frozenset(word.encode() for word in REPEATABLE)
_PUNCTUATION = ".,!?:;()[]\"'"
_TECHNICAL = frozenset(".+-#@")
_PLAIN = re.compile("[a-z0-9 ?,'\"]*").fullmatch
"""Most queries hold nothing else, and so no entity."""
_PHRASES = sorted(
    ((sum(map(len, words)) + GENERIC_REST, " ".join(words), words) for words in GENERIC_PHRASES), reverse=True
)
"""Letters from which on a line keeps enough when the phrase is taken out, the phrase, its words; the longest first."""
_PROMPT = "Expand this search query:"
_END = "<|im_end|>"


def parse_expansion(text: str) -> Parsed:
    """The lines of an output by type, stripped; lines without a type are ``invalid``, blank ones are left out."""
    parsed: Parsed = {"lex": [], "vec": [], "hyde": [], "invalid": []}
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("lex:"):
            parsed["lex"].append(line[4:].strip())
        elif line.startswith("vec:"):
            parsed["vec"].append(line[4:].strip())
        elif line.startswith("hyde:"):
            parsed["hyde"].append(line[5:].strip())
        elif line:
            parsed["invalid"].append(line)
    return parsed


def clean_model_output(text: str) -> tuple[str, bool]:
    """The text without end-of-turn tokens and closed thoughts, and whether there was a thought."""
    if "<" not in text:
        return text.strip(), False
    text = text.replace(_END, "").strip()
    thought = "<think>" in text and "</think>" in text
    return (_THOUGHT.sub("", text).strip() if thought else text), thought


def detect_only_mode(query: str) -> tuple[Kind | None, str]:
    """The type that a trailing ``/only:TYPE`` asks for (None: all), and the query without it."""
    found = _ONLY.search(query)
    return (cast("Kind", found[1].lower()), query[: found.start()].strip()) if found else (None, query)


@lru_cache(maxsize=64)
def read_query(query: str) -> Query:
    """All that scoring needs of a query. Pure; the latest are remembered, since GRPO scores several completions of each."""
    only, base = detect_only_mode(query) if "/" in query else (None, query)
    lower = base.lower().strip()
    words = lower.split()
    count = len(words)
    entities = () if _PLAIN(base) else tuple(sorted(extract_named_entities(base)))
    return Query(
        only,
        lower,
        3 if count >= LONG_QUERY else 2,
        len(lower) + ECHO_MARGIN,
        count > 1,
        frozenset([word for word in words if word not in NO_KEY_TERM]),
        entities,
        FILLER if FILLER.isdisjoint(words) else FILLER.difference(words),
    )


def extract_named_entities(query: str) -> set[str]:
    """Named entities of a query in lower case, by the rubric's rules of spelling.

    A word is one when it is in capitals (two characters or more), has a capital first letter, or holds one of ``.+-#@``;
    and so is the word after one, unless it says nothing (``NO_KEY_TERM``). The first word needs more: a capital there may
    only open the sentence, so common verbs do not count. Only words found by spelling draw in the next one.
    """
    entities: set[str] = set()
    previous = False
    for position, word in enumerate(query.split()):
        clean = word.strip(_PUNCTUATION)
        if clean.islower() and not previous:  # most words
            previous = not _TECHNICAL.isdisjoint(clean) and len(clean) >= 2
            if previous:
                entities.add(clean)
            continue
        lower = clean.lower()
        found = False
        if not clean:
            pass
        elif clean.isupper() and len(clean) >= 2:
            found = True
        elif clean[0].isupper() and lower not in NO_KEY_TERM:
            found = position > 0 or lower not in QUERY_VERBS
        elif len(clean) >= 2 and not _TECHNICAL.isdisjoint(clean):
            found = True
        elif len(clean) >= 2 and clean[0].isupper() and any(letter.isupper() for letter in clean[1:]):
            found = True  # reached by words of NO_KEY_TERM in odd case alone, such as "HoW"
        elif previous and lower not in NO_KEY_TERM:
            entities.add(lower)
        if found:
            entities.add(lower)
        previous = found
    return entities


def naming(lowers: Iterable[str], entities: tuple[str, ...]) -> int:
    """How many lower-case lines hold one of the entities, as part of a word too."""
    count = 0
    for lower in lowers:
        for entity in entities:
            if entity in lower:
                count += 1
                break
    return count


def alike(a: str, b: str, distance: int) -> bool:
    """Whether one of two lower-case lines holds the other, or fewer than ``distance`` words stand in only one of them.

    The first words of the shorter settle it for most pairs: those that are nowhere in the longer, not even within a word.
    One of them also shows that neither line holds the other.
    """
    if len(a) > len(b):
        a, b = b, a
    missing = set()
    for word in a.split():
        if word not in b:
            missing.add(word)
            if len(missing) >= distance:
                return False
    return a in b or len(set(a.split()) ^ set(b.split())) < distance


def lex_is_generic(line: str) -> bool:
    """Whether next to nothing of a lex line remains without a generic phrase such as ``how to``."""
    lower = line.lower().strip()
    letters = len("".join(lower.split()))
    for most, phrase, words in _PHRASES:
        if letters >= most:
            return False  # too much remains, of this phrase as of all shorter ones
        if phrase in lower or lower.startswith(words[0]):
            rest = lower
            for word in words:
                rest = rest.replace(word, "", 1).strip()
            if len(rest) < GENERIC_REST:
                return True
    return False


def is_diverse(a: str, b: str, min_distance: int = 2) -> bool:
    """Whether neither line holds the other and at least ``min_distance`` words stand in only one of them."""
    a, b = a.lower().strip(), b.lower().strip()
    return a not in b and b not in a and len(set(a.split()) ^ set(b.split())) >= min_distance


def echoes_query(expansion: str, query: str) -> bool:
    """Whether a line says the query again with next to nothing added."""
    line, query = expansion.lower().strip(), query.lower().strip()
    return query in line and len(line) < len(query) + ECHO_MARGIN


def word_repetition_penalty(text: str) -> int:
    """Two points for each further time that a word stands in a text after the second; short and common words are free."""
    raw = text.encode("utf-8", "replace")
    if text.isascii() or not any(map(str.isalnum, raw.translate(None, _ASCII).decode().strip(_MARKS))):
        # No letter beyond ASCII. Bytes are translated and split several times faster than a regular expression finds words.
        return _repeated(raw.translate(_LOWER_WORDS).split(), _FREE_BYTES)
    return _repeated(_WORD.findall(text.lower()), REPEATABLE)


def _repeated(words: list[Any], free: frozenset[Any]) -> int:
    words = [word for word in words if word not in free]
    if len(words) - len(set(words)) < 2:
        return 0  # most passages: none of the others can stand there three times
    return sum(2 * (count - 2) for word, count in Counter(words).items() if count > 2 and len(word) > 2)


def extract_query_from_prompt(prompt: str) -> str:
    """The query of a rendered prompt; a text without the instruction is the query itself."""
    if _PROMPT not in prompt:
        return prompt.strip()
    return prompt.rpartition(_PROMPT)[2].strip().partition(_END)[0].strip()
''',
    'finetune.rewards.qmd_words': r'''"""The word lists and limits of QMD's rubric.

They decide scores, so they are those of ``finetune/reward.py`` in github.com/tobi/qmd (commit dbfd0b4, MIT licence), word
for word: with any other lists our numbers could not stand beside the published ones.
"""

from __future__ import annotations

TYPES = ("lex", "vec", "hyde")
PREFIXES = ("lex:", "vec:", "hyde:")
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "\nassistant\n", "\nuser\n")
"""What a broken output leaks of its chat template."""
FILLER = frozenset({"overview", "basics"})
"""Words that template-made lex lines are padded with."""
REPEATABLE = frozenset("the a an is are to for of in and or it this that be with as on by".split())
"""Words that a passage may repeat."""

NO_KEY_TERM = frozenset(
    """
    what is how to the a an in on for of and or with my your do does can i me we who where when why which find get show tell
    about from into between through during after before like than then that this their its was were has had been being have
    not but just also very so if at by up out all some any no each every both few more most other only same such here there
    asked said notes meeting email discussion conversation call
    """.split()
)
"""Words of a query that say nothing of its subject."""

QUERY_VERBS = frozenset(
    """
    configure setup install build create make run start stop check test debug fix update change add remove delete use using
    need want should would could help please best good new old latest recent setting settings compare comparing implement
    implementing deploy deploying migrate migrating optimize optimizing understand understanding explain list describe
    define convert connecting performance overview introduction tutorial example difference between about review resolve
    resolving troubleshoot troubleshooting monitor monitoring manage managing enable disable set write read search possible
    common typical recommended alternative
    """.split()
)
"""Words that open a query with a capital and are no name."""

GENERIC_PHRASES = tuple(
    tuple(phrase.split())
    for phrase in (
        "find information about", "search for", "look up", "get information", "learn about", "information on",
        "details about", "find out about", "what is", "how to", "guide to", "help with",
    )
)  # fmt: skip
"""Phrases that, standing alone, make a lex line useless."""
GENERIC_REST = 3
"""A line is generic when fewer characters than these remain without the phrase."""

ECHO_MARGIN = 10
"""A line that holds the query and fewer characters than these beside it echoes the query."""
NATURAL_LENGTH = 15
"""A vec line of more characters that has a space counts as natural language."""
HYDE_SHORT, HYDE_LONG = 50, 200
"""Characters of a good passage, both included."""
LONG_QUERY = 5
"""From so many words of the query on, two lines must differ in three words instead of two."""
EXCELLENT, GOOD, ACCEPTABLE, POOR = 80.0, 60.0, 40.0, 20.0
"""Percentages from which a rating is given."""
ECHO_CAP = 50.0
"""The highest percentage of an expansion with a lex line that echoes the query."""
''',
    'harness.console': r'''"""Standard input, output and error: results go to stdout, messages to stderr, and data never raw to a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.skills import Outcome

MAX_STDIN = 256 * 1024 * 1024
"""Bytes of standard input that are read into memory; more belongs into a file."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS …: titles, clipboard
    r"|\x1b[ -/]{0,4}[0-~]"  # the other, short ones
)
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, and the characters that override the direction of writing."""


_CONTROL = [chr(code) for code in (*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20))]
"""What running text has next to none of."""


def clean(text: str) -> str:
    """``text`` without terminal escape codes and control characters; tabs and newlines stay, CRLF becomes LF.

    >>> clean("a \\x1b[31mred\\x1b[0m word\\r\\n\\x07")
    'a red word\\n'
    """
    return _UNSAFE.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def json_line(record: Mapping[str, Any]) -> str:
    """``record`` as one line of JSON, readable as to letters, with control characters escaped and so harmless."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def stdout_is_terminal() -> bool:
    """True where results are read by a person, not by a program."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdin_is_terminal() -> bool:
    """True where a person types (no piped input)."""
    return sys.stdin is not None and sys.stdin.isatty()


def prepare_streams() -> None:
    """UTF-8 for what programs read, and no character that could stop the work: what cannot be shown is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _safe_console(*, stderr: bool) -> Console:
    from rich.console import Console

    class SafeConsole(Console):
        """Prints strings as data: no markup, no emoji codes, no control characters. Colour comes by ``style=``."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(clean(text), **options)

    return SafeConsole(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """The console for messages, progress and tables that are not results. It honours NO_COLOR."""
    return _safe_console(stderr=True)


def stdout_console() -> Console:
    """The console for results that a person reads on a terminal."""
    return _safe_console(stderr=False)


def show_markdown(text: str) -> None:
    """Write Markdown to stdout: rendered on a terminal, as it is (but for control characters) when piped."""
    if not stdout_is_terminal():
        show_plain(text)
        return
    from rich.markdown import Markdown

    stdout_console().print(Markdown(clean(text).rstrip("\n"), hyperlinks=False), soft_wrap=False)


def show_plain(text: str) -> None:
    """Write text to stdout as it is, but for control characters."""
    sys.stdout.write(clean(text).rstrip("\n") + "\n")


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Write the result of a task to stdout: its records, or its text unless files were saved."""
    if as_json:
        show_records(outcome.records or ([{"text": outcome.text}] if outcome.text else []))
    elif outcome.text and not outcome.saved:
        (show_plain if outcome.plain else show_markdown)(outcome.text)
    sys.stdout.flush()


def show_records(records: Iterable[Mapping[str, Any]]) -> None:
    """Write records to stdout, one JSON object a line."""
    for record in records:
        sys.stdout.write(json_line(record) + "\n")


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), most: int = 0
) -> None:
    """Write a table to stdout: drawn on a terminal, separated by tabs (headings first) for programs.

    On a terminal the columns ``numbers`` are set flush right, and cells are one line of ``most`` characters (0: whole).
    """
    if not stdout_is_terminal():
        for row in (columns, *rows) if any(columns) else rows:
            sys.stdout.write("\t".join(" ".join(clean(cell).split()) for cell in row) + "\n")
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cut(cell, most) if most else cell for cell in row))
    stdout_console().print(table, soft_wrap=False)


def _cut(cell: str, most: int) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def decode(data: bytes) -> str:
    """Text from bytes of unknown encoding: by byte-order mark, else UTF-8, else Windows-1252 (which fits most others)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read_stdin(limit: int = MAX_STDIN) -> str | None:
    """What was piped in, decoded; None where standard input is a terminal, closed or empty.

    Says so on stderr while nothing comes. Raises InputError for more than ``limit`` bytes and for what is no text.
    """
    if sys.stdin is None or sys.stdin.closed or stdin_is_terminal():
        return None
    _notice_silence()
    source = getattr(sys.stdin, "buffer", None)
    data = source.read(limit + 1) if source is not None else sys.stdin.read(limit + 1).encode("utf-8", "replace")
    if len(data) > limit:
        raise InputError(
            f"standard input: more than {limit // 2**20} MB", "save it to a file and name the file in the task"
        )
    text = decode(data)
    head = text[: 2**16]
    if sum(map(head.count, _CONTROL)) > len(head) / 20:
        raise InputError("standard input is binary, not text", "pipe CSV, JSONL, JSON, BibTeX or text, or name the file")
    return text if text.strip() else None


def _notice_silence(seconds: float = 2.0) -> None:
    """One line on stderr where a pipe stays silent: else a forgotten one looks like a hang."""
    import select

    try:
        ready = bool(select.select([sys.stdin], [], [], seconds)[0])
    except (OSError, ValueError):  # Windows, or a stand-in without a file descriptor
        return
    if not ready:
        sys.stderr.write("waiting for standard input (add </dev/null where none is meant)\n")
''',
    'harness.errors': r'''"""Errors that a user can do something about. Each is one clear line and carries the exit code of DESIGN.md.

A traceback that reaches the user is a bug; these are not.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MODEL = 3
    INTERRUPTED = 130


class MarginaliaError(Exception):
    """A failure with one line of text and, where there is one, the remedy.

    ``message`` names what is wrong and where (file, row); ``remedy`` is what the user can do.
    """

    exit = Exit.FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(MarginaliaError):
    """The command line or the task is wrong."""

    exit = Exit.USAGE


class InputError(MarginaliaError):
    """A file or a row cannot be used."""


class NoModelError(MarginaliaError):
    """No model can run this here."""

    exit = Exit.NO_MODEL


class ModelError(MarginaliaError):
    """A model answered with an error; the request may not be repeated as it is."""


class ModelUnavailable(ModelError):
    """The backend could not be reached, was busy or died: the same request may be sent again."""


class ContextOverflow(ModelError):
    """Prompt and output do not fit into the model's context."""


class Offline(MarginaliaError):
    """The task needs the network and ``--offline`` is in force."""
''',
    'harness.readers.text': r'''"""Text from files and standard input: encodings found out, lines bounded, binary files refused."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.errors import InputError

MAX_RECORD = 16 * 1024 * 1024
"""Characters that one line, cell or row may have. The largest real row seen (3,303 authors) has 60,000."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of a file that has to be parsed as a whole (JSON, BibTeX)."""
SMALL = 16 * 1024 * 1024
"""Bytes up to which a table is walked once beforehand, to count its rows and see all its columns."""

_CHUNK = 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"%PDF", "a PDF", "rename it to end in .pdf"),
    (b"PAR1", "a Parquet file", "rename it to end in .parquet"),
    (b"PK\x03\x04", "a zip archive or an Office document", "unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Office document", "export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"SQLite format 3\x00", "a SQLite database", "export the table as CSV"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = bytes(sorted({*range(32), 127} - set(b"\t\n\r\f\x1b")))
_CP1252_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"


def writable(text: str) -> str:
    """``text`` without lone surrogates, halves of characters that no file or database could hold (they come from JSON
    escapes, and from bytes of arguments, input and file names that are not UTF-8)."""
    return _SURROGATE.sub("\ufffd", text)


def shown(text: str, width: int = 60) -> str:
    """``text`` fit for a message: printable, on one line, at most ``width`` characters."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


@dataclass(frozen=True)
class Text:
    """A text that can be opened again and again: a file in its encoding, or what came on standard input."""

    name: str
    size: int
    """Bytes of the file, or characters of a string."""
    open: Callable[[], TextIO]

    def lines(self) -> Iterator[str]:
        """Lines with their ends. Raises InputError at one of more than MAX_RECORD characters, having read no further."""
        with self.open() as stream:
            number = 0
            while line := stream.readline(MAX_RECORD + 1):
                number += 1
                if len(line) > MAX_RECORD:
                    raise InputError(
                        f"{self.name}: line {number} is longer than {MAX_RECORD >> 20} million characters",
                        "this is hardly a table of papers",
                    )
                yield line

    def whole(self, limit: int = MAX_DOCUMENT) -> str:
        """All of it. Raises InputError where it is larger than ``limit`` bytes."""
        if self.size > limit:
            raise InputError(
                f"{self.name} is larger than the {limit >> 20} MB that can be read at once",
                "split it, or give the papers as CSV or JSONL",
            )
        with self.open() as stream:
            return stream.read()


def from_string(name: str, text: str) -> Text:
    """A ``Text`` over a string."""
    text = writable(text).removeprefix("\ufeff")
    return Text(name, len(text), lambda: io.StringIO(text, newline=""))


def from_path(path: Path, notes: list[str]) -> Text:
    """A ``Text`` over a file; a guessed encoding is remarked in ``notes``.

    Raises InputError for a file that is empty, binary or not readable.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise InputError(f"{path} is empty")
        encoding, remark = _detect(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if remark:
        notes.append(f"{path}: {remark}")
    # Validated as UTF-8 where it claims to be; elsewhere a stray byte becomes U+FFFD instead of ending the run.
    return Text(writable(str(path)), size, lambda: path.open(encoding=encoding, errors="replace", newline=""))


def unreadable(path: Path, error: OSError) -> InputError:
    """One line for what the operating system said about ``path``."""
    return InputError(f"{path} cannot be read: {error.strerror or error}")


def _detect(path: Path) -> tuple[str, str]:
    """Name of the encoding and a remark where it was guessed. Raises InputError for a binary file."""
    with path.open("rb") as stream:
        head = stream.read(65536)
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding, ""
        for signature, what, remedy in _SIGNATURES:
            if head.startswith(signature):
                raise InputError(f"{path} is {what}, not text", remedy)
        if encoding := _utf16_without_mark(head):
            return encoding, "read as UTF-16 (no byte-order mark)"
        stream.seek(0)
        encoding = _eight_bit(iter(lambda: stream.read(_CHUNK), b""))
    # Control characters: a stray one survives in text; valid UTF-8 full of them, or other bytes with some, is no text.
    control = sum(map(head.count, (bytes([c]) for c in _CONTROL))) / len(head)
    if control > (0.3 if encoding == "utf-8" else 0.02):
        raise InputError(f"{path} is a binary file, not text", "give CSV, JSONL, JSON, BibTeX, PDF or text")
    return encoding, "" if encoding == "utf-8" else f"not UTF-8; read as {encoding}, check accented letters"


def _utf16_without_mark(head: bytes) -> str:
    pairs = len(head) // 2
    low, high = head[0::2].count(0), head[1::2].count(0)
    if high > 0.4 * pairs and low < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 * pairs and high < 0.05 * pairs else ""


def _eight_bit(chunks: Iterator[bytes]) -> str:
    """``utf-8`` where every byte fits, else ``cp1252`` where every byte is defined there, else ``latin-1``."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    utf8 = cp1252 = True
    for chunk in chunks:
        if utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                utf8 = False
        cp1252 = cp1252 and not any(byte in chunk for byte in _CP1252_UNDEFINED)
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    if utf8:
        return "utf-8"
    return "cp1252" if cp1252 else "latin-1"
''',
    'skills.expand.expansion': r'''"""An expansion: ``hyde:``, ``lex:`` and ``vec:`` lines for one query. Read, write, and take a ``lex`` line apart.

``lex`` lines go to full-text search, ``vec`` lines and the ``hyde`` passage (a hypothetical document, Gao et al. 2022) to
vector search. Training, evaluation and serving all import this module; nothing here imports a model runtime.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.console import clean
from harness.readers.text import writable

TYPES = ("hyde", "lex", "vec")
"""In the order in which they are written."""
MOST = {"hyde": 1, "lex": 4, "vec": 4}
"""Lines of a type that a model may write."""
LONGEST = {"hyde": 600, "lex": 120, "vec": 240}
"""Characters of a line; a longer one is the product of a loop. The longest of 3,118 gold lines have 435, 75 and 125."""
_LINE = re.compile(r"\s*(hyde|lex|vec):(.*)", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext)\|>")
_TERM = re.compile(r'(?P<minus>(?<!\S)-(?="|\w\w))?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|")')


@dataclass(frozen=True)
class Line:
    """One line of an expansion."""

    type: str
    """``hyde``, ``lex`` or ``vec``."""
    text: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"

    def record(self) -> dict[str, str]:
        """As it stands in JSON."""
        return {"type": self.type, "text": self.text}


@dataclass(frozen=True)
class Lexical:
    """What a ``lex`` line asks full-text search for."""

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    """Quoted: their words stand together, in this order."""
    excluded: tuple[str, ...]
    """Words and phrases after a minus sign: a document that holds one is not wanted."""


def one_line(text: str) -> str:
    """Foreign text on one line, without control characters and halves of characters."""
    return " ".join(clean(writable(" ".join(text.split()))).split())


def parse_expansion(text: str) -> tuple[list[Line], list[str]]:
    """The lines of a model's answer, in its order, and what in it is no line (without its type, empty, a chat token).

    Thoughts before the answer and what follows the end of the turn do not count as a part of it.

    >>> parse_expansion("lex: auth settings\\nSure! Here is more:\\nvec: how to configure login")
    ([Line(type='lex', text='auth settings'), Line(type='vec', text='how to configure login')], ['Sure! Here is more:'])
    """
    answer = _END_OF_TURN.split(_THOUGHTS.sub("", text), maxsplit=1)[0]
    lines, malformed = [], []
    for raw in answer.split("\n"):
        match = _LINE.match(raw)
        content = one_line(match[2]) if match else ""
        if match and content and "<|" not in content:
            lines.append(Line(match[1], content))
        elif raw.strip():
            malformed.append(one_line(raw))
    return lines, malformed


def lines_of(pairs: Iterable[Iterable[Any]]) -> list[Line]:
    """Lines from ``[[type, text], …]``, as data sets and the journal keep them. ValueError for another type or no text."""
    lines = []
    for pair in pairs:
        kind, text = pair
        if kind not in TYPES or not isinstance(text, str) or not one_line(text):
            raise ValueError(f"not a line of an expansion: {pair!r}")
        lines.append(Line(kind, one_line(text)))
    return lines


def render(lines: Iterable[Line]) -> str:
    """One ``type: text`` line each: hyde, then lex, then vec, and within a type in the order given."""
    return "\n".join(map(str, ordered(lines)))


def ordered(lines: Iterable[Line]) -> list[Line]:
    """The lines sorted by type, in the order of ``TYPES``."""
    return sorted(lines, key=lambda line: TYPES.index(line.type))


def parse_lex(text: str) -> Lexical:
    """A ``lex`` line taken apart. A minus sign excludes where it begins a word of two letters or more, or a phrase.

    So ``-i`` remains a word (an option of some command), and so does a hyphen inside a word.

    >>> parse_lex('"cache miss" profiling -sports git rebase -i')
    Lexical(words=('profiling', 'git', 'rebase', '-i'), phrases=('cache miss',), excluded=('sports',))
    """
    words: list[str] = []
    phrases: list[str] = []
    excluded: list[str] = []
    for match, term in _terms(text):
        (excluded if match["minus"] else phrases if match["phrase"] else words).append(term)
    return Lexical(tuple(words), tuple(phrases), tuple(excluded))


def terms_of(text: str) -> list[tuple[str, bool]]:
    """The words and phrases of a ``lex`` line as they stand, each with whether it is excluded.

    >>> terms_of('"cache miss" profiling -sports')
    [('cache miss', False), ('profiling', False), ('sports', True)]
    """
    return [(term, bool(match["minus"])) for match, term in _terms(text)]


def _terms(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for match in _TERM.finditer(text):
        if term := (match["phrase"] or match["word"] or "").strip():
            yield match, term
''',
    'skills.expand.prompt': r'''"""Prompt contract ``expand@1``: the bytes of the prompt and the shape of the answer of a model tuned for expansion.

The prompt is Qwen3's chat template with thinking off (``enable_thinking=False``), for one user turn:

    <|im_start|>user
    /no_think Expand this search query: QUERY<|im_end|>
    <|im_start|>assistant
    <think>

    </think>

with the block of thoughts empty and two line ends after it. A ``/only:TYPE`` follows the query where only one type is
wanted, and ``Query intent: …`` stands on a line of its own below it where one is known. The answer is lines of
``expansion.py`` and the end of the turn. Training and every runtime take their bytes from here: the embedded one and
Ollama are sent ``render_prompt`` as a raw prompt, ``TEMPLATE`` gives a bare ``ollama run`` the same, ``CHAT_TEMPLATE``
travels inside the GGUF for whatever else serves it. Nothing here imports a model runtime.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import InputError, UsageError
from skills.expand.expansion import LONGEST, MOST, TYPES, Line, one_line, render

CONTRACT = "expand@1"
INSTRUCTION = "/no_think Expand this search query: "
END = "<|im_end|>"
HEAD = f"<|im_start|>user\n{INSTRUCTION}"
TAIL = f"{END}\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

TEMPLATE = f"{HEAD}{{{{ .Prompt }}}}{TAIL}{{{{ .Response }}}}"
"""The same prompt as a Go template, for the Modelfile."""

STOPS = (END, "<|im_start|>", "<|endoftext|>")
"""Texts that end the answer."""

CHAT_TEMPLATE = (
    "{#- Prompt contract expand@1 of Marginalia: a user's message is the bare search query, or the whole instruction; "
    "the model was trained without system messages, and thinking is always off. "
    "The answer is hyde:, lex: and vec: lines. -#}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] == 'user' -%}\n"
    "{{- '<|im_start|>user\\n' -}}\n"
    f"{{%- if not message['content'].startswith('{INSTRUCTION}') -%}}{{{{- '{INSTRUCTION}' -}}}}{{%- endif -%}}\n"
    "{{- message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- elif message['role'] == 'assistant' -%}\n"
    "{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message['content'] + '<|im_end|>\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
)
"""The same prompt as a Jinja template, for the GGUF. Its comment also keeps it from being like any template that Ollama
knows: within an edit distance of 100 the daemon would take its own instead."""

OUTPUT_TOKENS = 400
"""An answer needs about 60 to 150."""
LINE_TOKENS = 200
"""The same for a single line that is asked for again."""
LEAST_MORE = 10
"""Characters that a line which was begun must go on for: a shorter one would find what its beginning finds."""
LONGEST_QUERY = 2000
"""Characters of a query, and of an intent."""
_ONLY = re.compile(r"^\s*/only:(\S*)(?=\s)|(?:^|\s)/only:(\S*)\s*$", re.IGNORECASE)
_TOKEN = re.compile(r"<(?=\||/?[a-z0-9_+-]+>)")


@dataclass(frozen=True)
class Query:
    """What is to be expanded."""

    text: str
    intent: str = ""
    only: tuple[str, ...] = ()
    """The types that are wanted; empty for all."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are wanted, in the order in which they are written."""
        return tuple(kind for kind in TYPES if kind in self.only) or TYPES


def split_only(text: str) -> tuple[str, tuple[str, ...]]:
    """What a user typed without a ``/only:TYPE`` (or ``/only:lex,vec``) before or behind it, and the types that it names.

    Raises UsageError for a type that there is not.

    >>> split_only("auth config /only:lex"), split_only("/only:lex,vec auth config")
    (('auth config', ('lex',)), ('auth config', ('lex', 'vec')))
    """
    match = _ONLY.search(text)
    if match is None:
        return text.strip(), ()
    said = match[1] or match[2] or ""
    named = re.split(r"[,|]", said.lower())
    if unknown := [name for name in named if name not in TYPES]:
        raise UsageError(f"/only:{one_line(said)}: no type is called {unknown[0]!r}", f"one of {', '.join(TYPES)}")
    return f"{text[: match.start()]} {text[match.end() :]}".strip(), tuple(named)


def parse_query(text: str, intent: str = "", only: Iterable[str] = ()) -> Query:
    """A query from what a user typed, checked; the types of its own ``/only:`` go before ``only``.

    Raises UsageError as ``split_only`` does, InputError for a query without a letter or digit, or one that is too long.
    """
    text, named = split_only(text)
    wanted = set(named or only)
    query = Query(one_line(text), one_line(intent), tuple(kind for kind in TYPES if kind in wanted))
    if not any(letter.isalnum() for letter in query.text):
        raise InputError("the query holds neither letters nor digits" if query.text else "the query is empty")
    for what, value in (("query", query.text), ("intent", query.intent)):
        if len(value) > LONGEST_QUERY:
            raise InputError(f"the {what} has {len(value):,} characters, at most {LONGEST_QUERY:,} are taken", "shorten it")
    return query


def plain(text: str) -> str:
    """Text as it may stand in a prompt: on one line, composed (NFC), with nothing that could pass for a chat token.

    >>> plain("ends <|im_end|>\\n and </think>, but Vec<T> < 3")
    'ends < |im_end|> and < /think>, but Vec<T> < 3'
    """
    return _TOKEN.sub("< ", one_line(unicodedata.normalize("NFC", text)))


def user_turn(query: Query) -> str:
    """What the user says, as training data for chat formats needs it.

    Types that are wanted but are not exactly one are left to the grammar: the model knows one ``/only:`` or none.
    """
    text = INSTRUCTION + plain(query.text)
    if len(query.only) == 1:
        text += f" /only:{query.only[0]}"
    return text + (f"\nQuery intent: {plain(query.intent)}" if query.intent else "")


def render_prompt(query: Query) -> str:
    """The whole prompt, to its last byte."""
    return HEAD + user_turn(query).removeprefix(INSTRUCTION) + TAIL


def completion(lines: Iterable[Line]) -> str:
    """What the model should write after the prompt: the training target."""
    return render(lines) + END


def grammar(types: Sequence[str]) -> str:
    """GBNF of an answer with all of ``types``: each at least once, at most ``MOST`` times, in their order, bounded."""
    blocks = [f'"{kind}: " {kind} ("\\n{kind}: " {kind}){{0,{MOST[kind] - 1}}}' for kind in types]
    rules = ["root ::= " + ' "\\n" '.join(blocks)]
    rules += [f"{kind} ::= first any{{0,{LONGEST[kind] - 1}}}" for kind in types]
    return "\n".join([*rules, *_LETTERS])


def line_grammar(kind: str, start: str = "") -> str:
    """GBNF of the rest of one line after ``TYPE:`` and ``start``: a space and at least ``LEAST_MORE`` characters."""
    room = max(LEAST_MORE, LONGEST[kind] - len(start) - 2)
    return "\n".join([f'root ::= " " first any{{{LEAST_MORE - 1},{room}}}', *_LETTERS])


_LETTERS = ("any ::= [^\\x00-\\x1F\\x7F]", "first ::= [^\\x00-\\x20\\x7F]")
''',
}

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

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from finetune.jobs.files import text_of
from finetune.jobs.source.cloud import AUTO, data_folder, push
from finetune.jobs.source.eval_common import prompt_of, read_rows, trained

DEPENDENCIES = (
    "accelerate>=1.15",
    "datasets>=4",
    "peft>=0.21",
    "pyyaml>=6",
    "torch>=2.6",
    "transformers>=5",
    "trl>=1.16,<2",
)
FILES = ("finetune/configs/qmd-sft.yaml",)


def values(changes: Sequence[str], path: str = FILES[0]) -> dict[str, Any]:
    """The configuration with ``key=value`` changes. SystemExit for a key that it does not have."""
    config: dict[str, Any] = yaml.safe_load(text_of(path))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in config:
            raise SystemExit(f"error: --set {change}: the configuration has {', '.join(config)}")
        config[key] = yaml.safe_load(value)
    return config


def arguments(config: Mapping[str, Any], out: str, cuda: bool) -> dict[str, Any]:
    """The configuration as TRL's SFTConfig takes it."""
    return {
        "output_dir": out,
        "num_train_epochs": config["epochs"],
        "per_device_train_batch_size": config["micro_batch"],
        "gradient_accumulation_steps": max(1, config["batch"] // config["micro_batch"]),
        "learning_rate": float(config["learning_rate"]),
        "lr_scheduler_type": config["scheduler"],
        "warmup_steps": config["warmup_steps"],
        "max_length": config["max_length"],
        "completion_only_loss": True,
        "eval_strategy": "steps",
        "eval_steps": config["eval_steps"],
        "save_steps": config["save_steps"],
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "logging_steps": config["logging_steps"],
        "report_to": config["report_to"],
        "seed": config["seed"],
        "bf16": cuda,
        "use_cpu": not cuda,
    }


def lora(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as PEFT's LoraConfig takes it."""
    return {
        "task_type": "CAUSAL_LM",
        "r": config["lora_r"],
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config.get("lora_dropout", 0.0),
        "target_modules": config["lora_targets"],
        "bias": config.get("lora_bias", "none"),
    }


def train(config: Mapping[str, Any], data: str, out: str, limit: int) -> None:
    """Train, and write adapter and tokenizer to ``out``."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    folder = data_folder(data)
    sets = {
        name: Dataset.from_list([trained(row) for row in read_rows(folder / f"{name}.jsonl")][: limit or None])
        for name in ("train", "valid")
    }
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    trainer = SFTTrainer(
        model=config["base"],
        args=SFTConfig(**arguments(config, out, torch.cuda.is_available())),
        train_dataset=sets["train"],
        eval_dataset=sets["valid"],
        processing_class=tokenizer,
        peft_config=LoraConfig(**lora(config)),
    )
    trainer.train()
    print(json.dumps({"eval": trainer.evaluate()}))
    trainer.save_model(out)
    tokenizer.save_pretrained(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=AUTO, metavar="REF", help="data set on the hub, or a folder (default: yours)")
    parser.add_argument(
        "--push", default=AUTO, metavar="REPO", help="where the adapter goes (default: yours); none keeps it"
    )
    parser.add_argument("--out", default="sft", metavar="FOLDER", help="where it is written first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N rows only")
    parser.add_argument("--dry-run", action="store_true", help="show values and a prompt, and stop")
    args = parser.parse_args(argv)
    config = values(args.set)
    if args.dry_run:
        shown = {
            "config": config,
            "trl": arguments(config, args.out, True),
            "peft": lora(config),
            "prompt": prompt_of("auth config"),
        }
        print(json.dumps(shown, indent=1))
        return 0
    train(config, args.data, args.out, args.limit)
    from pathlib import Path

    push(Path(args.out), args.push, "qmd-query-expansion-1.7B-sft")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
