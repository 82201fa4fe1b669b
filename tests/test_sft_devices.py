"""Where a run computes: one GPU, several processes, a base that does not fit, Unsloth. No GPU is needed to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
torch = pytest.importorskip("torch", reason="needs the finetune extra")

from sft_helpers import MOVES, SETS, config, make_base, make_data, values  # noqa: E402

from finetune.sft import base as bases  # noqa: E402
from finetune.sft import model as models  # noqa: E402
from finetune.sft import preflight  # noqa: E402
from finetune.sft.config import SftConfig, parse  # noqa: E402
from finetune.sft.data import Labels  # noqa: E402
from harness.errors import InputError, UsageError  # noqa: E402
from skills.annotate.prompt import QUOTE  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
GPU = models.Device("cuda", "bf16")
LABELS = Labels(MOVES, SETS)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def of_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int, **more: str) -> None:
    for name, value in {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), **more}.items():
        monkeypatch.setenv(name, value)


def test_each_process_takes_its_own_gpu_and_spreads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = parse({"device_map": "auto"}, "test")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert models.placement(SftConfig(), GPU) == {"": "cuda:0"}
    assert models.placement(spread, GPU) == "auto"
    assert models.placement(spread, models.Device("cpu", "fp32")) == {"": "cpu"}
    of_rank(monkeypatch, 1, 2)
    assert models.placement(SftConfig(), GPU) == {"": "cuda:1"}
    assert models.placement(spread, GPU) == {"": "cuda:1"}


@pytest.mark.parametrize("sharded", [False, True])
def test_fsdp_gets_four_bit_weights_that_it_can_shard(monkeypatch: pytest.MonkeyPatch, base: Path, sharded: bool) -> None:
    from transformers import AutoModelForCausalLM

    asked: dict[str, Any] = {}

    def load(folder: Path, **options: Any) -> Any:
        asked.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    of_rank(monkeypatch, 0, 2, ACCELERATE_USE_FSDP=str(sharded).lower())
    with pytest.raises(ValueError, match="enough"):
        models.load_base(base, parse({"quantize": "nf4"}, "test"), GPU)
    storage = asked["quantization_config"].bnb_4bit_quant_storage
    assert storage == (torch.bfloat16 if sharded else torch.uint8)
    assert asked["quantization_config"].bnb_4bit_compute_dtype == torch.bfloat16


def test_a_base_that_the_gpus_cannot_hold_is_one_line(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    def refuse(folder: Path, **options: Any) -> Any:
        raise ValueError("Some modules are dispatched on the CPU or the disk. Make sure you have enough GPU RAM")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    chosen = parse({"base": str(base), "device_map": "auto", "quantize": "nf4"}, "test")
    with pytest.raises(InputError, match="does not fit the memory of the GPUs here; more or larger GPUs"):
        models.load_base(base, chosen, GPU)

    def offload(folder: Path, **options: Any) -> Any:
        return SimpleNamespace(hf_device_map={"model.layers.0": 0, "model.layers.1": "cpu"})

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", offload)
    plain = parse({"base": str(base), "device_map": "auto", "quantize": "none"}, "test")
    with pytest.raises(InputError, match=r"does not fit .* --set quantize=nf4"):
        models.load_base(base, plain, GPU)


def test_a_package_that_is_missing_is_said_before(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    from transformers import AutoModelForCausalLM

    from finetune.sft import preflight

    with monkeypatch.context() as here:
        here.setattr(preflight.importlib.util, "find_spec", lambda name: None)
        preflight.check_installed(parse({"quantize": "none"}, "test"))
        for key, package in (("report_to", "wandb"), ("report_to", "trackio"), ("quantize", "bitsandbytes")):
            asked = {"quantize": "none"} | ({"quantize": "nf4"} if key == "quantize" else {key: package})
            with pytest.raises(
                InputError, match=f"{key}: {package} is not installed; pip install {package}, or --set {key}"
            ):
                preflight.check_installed(parse(asked, "test"))

    def refuse(folder: Path, **options: Any) -> Any:
        raise ImportError("FlashAttention2 is toggled on, but flash_attn is not installed.")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(InputError, match=r"attention flash_attention_2: .* not installed.*--set attention=sdpa"):
        models.load_base(base, parse({"attention": "flash_attention_2", "quantize": "none"}, "test"), GPU)


def test_gpus_of_one_process_do_not_cut_batches(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainerCallback

    from finetune.sft import trainer as trainers
    from finetune.sft.data import open_folder
    from finetune.sft.run import prepare

    plain = trainers.arguments

    def with_two(chosen: SftConfig, device: models.Device) -> Any:
        made = plain(chosen, device)
        assert made.n_gpu <= 1
        made._n_gpu = 2
        return made

    monkeypatch.setattr(trainers, "arguments", with_two)
    chosen = config(base, make_data(tmp_path / "chat", QUOTE), tmp_path / "out")
    ready = prepare(base, open_folder(Path(chosen.data)), chosen)
    device = models.choose_device(chosen)
    tuned = models.build(bases.find(str(base)), ready.tokenizer, None, chosen, device)
    materials = trainers.Materials(ready.train.examples, ready.valid.examples, 0, models.plain_ids(ready.tokenizer, 9), {})
    trainer = trainers.CompletionTrainer(tuned, chosen, device, materials, TrainerCallback())
    assert not isinstance(trainer._wrap_model(tuned), torch.nn.DataParallel)


# Unsloth, which is not installed here: what it is asked for.


class FastLanguageModel:
    """Takes Unsloth's place: plain transformers and PEFT, which it wraps."""

    asked: dict[str, Any]

    @classmethod
    def from_pretrained(cls, model_name: str, **options: Any) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM

        cls.asked = dict(options)
        return AutoModelForCausalLM.from_pretrained(model_name), None

    @classmethod
    def get_peft_model(cls, model: Any, **options: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        cls.asked |= options
        assert isinstance(options["target_modules"], list)
        del options["use_gradient_checkpointing"], options["random_state"]
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))


@pytest.fixture
def unsloth(monkeypatch: pytest.MonkeyPatch) -> type[FastLanguageModel]:
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(FastLanguageModel=FastLanguageModel))
    return FastLanguageModel


def test_unsloth_makes_the_adapter_that_is_asked_for(unsloth: type[FastLanguageModel], base: Path, tmp_path: Path) -> None:
    chosen = parse({"base": "Some/base", "use_unsloth": True, "lora_targets": "all-linear", "lora_r": 4}, "test")
    tuned = models.build(bases.find(str(base)), None, None, chosen, GPU)
    projections = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (unsloth.asked["target_modules"], unsloth.asked["r"]) == (projections, 4)
    assert (unsloth.asked["load_in_4bit"], unsloth.asked["dtype"]) == (True, torch.bfloat16)
    tuned.save_pretrained(tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "Some/base"
    with pytest.raises(InputError, match="lora_targets: the base has no layer wq"):
        models.build(bases.find(str(base)), None, None, parse({"use_unsloth": True, "lora_targets": "wq"}, "test"), GPU)


@pytest.mark.usefixtures("unsloth")
def test_unsloth_is_not_asked_for_what_it_cannot_do(base: Path) -> None:
    with pytest.raises(InputError, match="use_unsloth: Unsloth cannot tune a mark contract"):
        models.build(bases.find(str(base)), None, LABELS, parse({"use_unsloth": True}, "test"), GPU)
    with pytest.raises(UsageError, match="Unsloth starts an adapter of its own"):
        parse({"use_unsloth": True, "adapter": "there"}, "test")


def test_a_run_with_unsloth_says_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    monkeypatch.setitem(sys.modules, "unsloth", None)
    with pytest.raises(InputError, match="use_unsloth: Unsloth is not installed; pip install unsloth"):
        models.build(bases.find(str(base)), None, None, parse({"use_unsloth": True}, "test"), GPU)


# FSDP.

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
"""What ``accelerate launch --use_fsdp`` with the options of finetune/train.py sets."""
ON_CPU = """
import sys
from accelerate import state
made = state.PartialState.__init__
def told(self, *args, **options):  # accelerate shards on GPUs alone; torch can on CPUs too
    made(self, *args, **options)
    if self.distributed_type == state.DistributedType.MULTI_CPU:
        state.PartialState._shared_state["distributed_type"] = state.DistributedType.MULTI_GPU
state.PartialState.__init__ = told
from finetune import train
raise SystemExit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no gloo launcher")
def test_a_sharded_run_takes_the_same_steps_and_saves_the_whole_adapter(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from finetune.sft import run as runs
    from harness.console import stderr_console

    make_data(tmp_path / "chat", QUOTE)
    (tmp_path / "on_cpu.py").write_text(ON_CPU)
    steady = {"max_steps": 2, "save_steps": 2, "lora_dropout": 0.0, "micro_batch": 1}
    (tmp_path / "two.yaml").write_text(json.dumps(values(base, tmp_path / "chat", tmp_path / "two", **steady)))
    runs.sft(config(base, tmp_path / "chat", tmp_path / "one", **steady), runs.Run(offline=True), stderr_console())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, str(tmp_path / "on_cpu.py"), "sft", str(tmp_path / "two.yaml"), "--offline"]
    environment = {**os.environ, **FSDP, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "stderr").open("w+") as errors:
        launched = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            status = launched.wait(280)
        finally:
            launched.terminate()  # not kill: each of its children is a session of its own and would outlive it
            launched.wait(30)
        errors.seek(0)
        assert status == 0, errors.read()[-2000:]
    losses = []
    for name in ("one", "two"):
        history = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([entry["loss"] for entry in map(json.loads, history) if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


def test_marks_cannot_be_sharded_which_is_said(monkeypatch: pytest.MonkeyPatch, base: Path, tmp_path: Path) -> None:
    of_rank(monkeypatch, 0, 2, ACCELERATE_USE_FSDP="true")
    with pytest.raises(InputError, match="which FSDP cannot shard; launch without --use_fsdp"):
        models.build(bases.find(str(base)), None, LABELS, config(base, tmp_path, tmp_path), models.Device("cpu", "fp32"))


@pytest.mark.parametrize(("load", "policy"), [(0.2, None), (99.0, "passive")])
def test_threads_sleep_only_where_others_want_the_cores(monkeypatch: pytest.MonkeyPatch, load: float, policy: str) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is put back afterwards
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    preflight.quiet()
    assert os.environ.get("OMP_WAIT_POLICY") == policy
