"""What a GPU holds at a time: batches by pixels, and parts that wait on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.families import all_families
from support.pretended import REAL, pretended
from support.tiny import brightness, tiny_sd
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from steer import Prompt, Reward, Sampler
from steer.models import load, options, room
from steer.models.options import ModelOptions
from steer.models.room import Residence, bytes_of, fits, in_equal_batches, rows_at_once
from steer.sampling import shared_memory

pytestmark = pytest.mark.skipif(REAL is not None, reason="a real accelerator tells by itself")
CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")
PROMPTS = [Prompt("a red circle", seed=1), Prompt("a blue square", seed=5)]


@pytest.mark.parametrize(
    ("rows", "side", "expected"),
    [
        (4, 1024, [1] * 4), (4, 512, [4]), (16, 512, [4] * 4), (5, 512, [3, 3]), (6, 512, [3, 3]), (1, 2048, [1]),
        (9, 64, [9]), (7, 768, [1] * 7), (9, 512, [3, 3, 3]), (10, 512, [4, 4, 4]),
    ],
)  # fmt: skip
def test_batches_of_a_megapixel_are_equal(rows: int, side: int, expected: list[int]) -> None:
    sizes = []

    def double(part: Tensor, of: Sequence[int]) -> Tensor:
        sizes.append(len(part))
        assert part.tolist() == list(of)
        return 2 * part

    assert in_equal_batches(double, torch.arange(rows), rows_at_once(side * side)).tolist() == list(
        range(0, 2 * rows, 2)
    )
    assert sizes == expected


def test_weights_leave_a_third_of_the_room() -> None:
    assert fits(16, 24) and not fits(17, 24) and fits(10**15, None)


def test_shared_weights_count_once() -> None:
    one = nn.Linear(3, 5)
    assert bytes_of([one, nn.ModuleList([one])]) == 4 * (15 + 5)


def test_a_tensor_that_consists_of_others_takes_their_bytes() -> None:
    layer = nn.Linear(3, 5, bias=False)
    layer.weight = nn.Parameter(TwoTensor(torch.zeros(5, 3), torch.zeros(5, 3)))  # as torchao's: data and scales
    assert bytes_of([layer]) == 2 * 4 * 15


class Judge(Reward):
    """Brightness times a weight that is large for its size."""

    def prepare(self) -> None:
        self.model = nn.Linear(1000, 1).to(self.device)

    def __call__(self, samples: Tensor, prompts) -> Tensor:
        assert self.model.weight.device == samples.device
        return brightness(samples, prompts)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Room of the pretended GPU in bytes; no limit if empty."""
    bytes_there: list[int] = []

    def room_there(device: torch.device) -> int | None:
        return bytes_there[0] if bytes_there and device.type == "cuda" else None

    for module in (load, room, shared_memory):
        monkeypatch.setattr(module, "room_of", room_there)
    monkeypatch.setattr(load, "pick_device", torch.device)
    return bytes_there


def places(sampler: Sampler) -> set[str]:
    """Return what is on the GPU."""
    parts = sampler.backbone.pipe.components.items()
    return {name for name, part in parts if isinstance(part, nn.Module) and next(part.parameters()).device == CUDA}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, id=family.name, marks=pytest.mark.slow)  # loads it twice
        for family in all_families()
        if family.name in ("sdxl", "sd3", "qwen-image")
    ],
)
def test_encoders_and_the_rest_take_turns_on_a_gpu_that_has_no_room_for_both(
    family, card: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.make().save_pretrained(tmp_path / "model")
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    given = {"particles": 2, "steps": 2, "reward": brightness, "choose": "all", **family.guided, **size}
    with pretended():
        roomy = Sampler(tmp_path / "model", device="cuda", dtype="fp32")
        expected = roomy.generate(PROMPTS, **given)
        card.append(1000)
        sampler = Sampler(tmp_path / "model", device="cuda", dtype="fp32")
        assert places(sampler) == set()
        encoded = []
        encode_one = type(sampler.backbone).encode_one

        def noted(self, *arguments):
            encoded.append(places(sampler))
            return encode_one(self, *arguments)

        monkeypatch.setattr(type(sampler.backbone), "encode_one", noted)
        items = sampler.generate(PROMPTS, **given)
        everything = places(roomy)
        encoders = {name for name in everything if name.startswith("text_encoder")}
        assert encoded == [encoders] * 2  # both before anything is drawn
        assert places(sampler) == everything - encoders
    assert items.rewards == expected.rewards


def on_gpu() -> Sampler:
    sampler = Sampler(tiny_sd().to("cuda"))
    sampler.backbone.reside(CUDA, crowded=False)
    return sampler


@pytest.mark.slow
def test_activations_are_computed_again_in_the_decoder_that_is_used() -> None:
    with pretended():
        backbone = Sampler(tiny_sd().to("cuda", torch.float16)).backbone
        assert backbone.pipe.vae.config.force_upcast and backbone.autoencoder is backbone.pipe.vae
        with backbone.recomputing("base"):
            assert backbone.pipe.vae.is_gradient_checkpointing and backbone.pipe.unet.is_gradient_checkpointing
        assert not backbone.pipe.vae.is_gradient_checkpointing


@pytest.mark.slow
def test_an_autoencoder_that_overflows_in_fp16_is_no_second_one_that_nobody_counts_or_moves() -> None:
    (family,) = (one for one in all_families() if one.name == "sdxl")
    with pretended():
        pipe = family.make().to("cuda", torch.float16)
        pipe.vae.register_to_config(force_upcast=True)
        backbone = Sampler(pipe).backbone
        backbone.reside(CUDA, crowded=False)
        assert backbone.autoencoder is pipe.vae and pipe.vae.dtype == torch.float32
        assert backbone.bytes_held() == bytes_of(options.modules_of(pipe).values())
        assert backbone.crowd()
        backbone.enter(encoding=True)
        assert where(backbone.autoencoder, pipe.unet, pipe.text_encoder) == ["cpu", "cpu", "cuda"]


@pytest.mark.slow
def test_a_reward_waits_on_the_cpu_if_the_gpu_is_full(card: list[int]) -> None:
    with pretended():
        sampler = on_gpu()
        drawing = sampler.backbone.bytes_held() - bytes_of([sampler.backbone.pipe.text_encoder])
        judge = Judge(device=CUDA)
        card.append(3 * (drawing + judge.bytes_held()) // 2 - 3)
        sampler.generate(PROMPTS, reward=judge, particles=2, steps=1)
        assert judge.waits and judge.model.weight.device == CPU
        assert "text_encoder" not in places(sampler)


class Full:
    """A card on which some moves find no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused: list[nn.Module] = []
        monkeypatch.setattr(room, "moved", self.moved)

    def moved(self, modules, device: torch.device) -> None:
        for module in modules:
            if module in self.refused and device.type != "cpu":
                self.refused.remove(module)
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            module.to(device)


def where(*modules: nn.Module) -> list[str]:
    return [next(module.parameters()).device.type for module in modules]


def test_a_move_that_found_no_room_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended():
        encoder, unet, vae = (nn.Linear(2, 2) for _ in range(3))
        card, residence = Full(monkeypatch), Residence(CUDA, [encoder], lambda: [unet, vae], crowded=True)
        residence.enter(encoding=True)
        card.refused.append(vae)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            residence.enter(encoding=False)
        residence.enter(encoding=True)  # it was, before
        assert where(encoder, unet, vae) == ["cuda", "cpu", "cpu"]
        residence.enter(encoding=False)
        assert where(encoder, unet, vae) == ["cpu", "cuda", "cuda"]


def test_weights_for_which_there_was_no_room_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended():
        base, student = nn.Linear(2, 2).to(CUDA), nn.Linear(2, 2)
        card, residence = Full(monkeypatch), Residence(CUDA, [], lambda: [base, student], crowded=False)
        residence.wait(student)
        card.refused.append(student)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            residence.use(student, [base])
        residence.use(base)
        assert where(base, student) == ["cuda", "cpu"]
        residence.use(student, [base])
        assert where(base, student) == ["cpu", "cuda"]


@pytest.mark.slow
def test_texts_are_not_encoded_beside_the_work_once_the_card_is_crowded(monkeypatch) -> None:
    with pretended():
        sampler, threads = on_gpu(), []
        settle = shared_memory.SharedMemory.settle

        def crowds(self) -> None:
            settle(self)
            threads.append("settled")
            if threads.count("settled") == 3:  # with the weights of the second pack
                assert self._backbone.crowd()

        def noted(self, *arguments):
            threads.append(threading.current_thread() is threading.main_thread())
            return encode_one(self, *arguments)

        encode_one = type(sampler.backbone).encode_one
        monkeypatch.setattr(type(sampler.backbone), "encode_one", noted)
        monkeypatch.setattr(shared_memory.SharedMemory, "settle", crowds)
        two = [Prompt("a", settings={"steps": 1}), Prompt("b", settings={"steps": 2})]
        assert len(sampler.generate(two, particles=1).items) == 2
        assert [one for one in threads if one != "settled"] == [True, True]


@pytest.mark.slow
def test_out_of_memory_first_sends_away_what_is_not_at_work() -> None:
    with pretended():
        sampler, judge = on_gpu(), Judge(device=CUDA)
        seen = []

        def full(module, inputs) -> None:
            if len(seen) < 3:
                seen.append((judge.model.weight.device, "text_encoder" in places(sampler)))
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        sampler.backbone.pipe.unet.register_forward_pre_hook(full)
        item = sampler.generate(PROMPTS[:1], reward=judge, particles=4, steps=1).items[0]
        assert seen == [(CUDA, True), (CUDA, False), (CPU, False)]
        assert item.recipe.settings["chunk"] == 2  # only then smaller


@pytest.mark.slow
def test_texts_that_are_not_kept_bring_the_encoders_back() -> None:
    with pretended():
        sampler = on_gpu()
        sampler.backbone.crowd()
        sampler.backbone.encodings.limit = 1
        two = [Prompt("a", settings={"steps": 1}), Prompt("b", settings={"steps": 2})]
        assert len(sampler.generate(two, particles=1).items) == 2  # in packs of their own, whose texts are not kept
        assert places(sampler) == {"unet", "vae"}


@pytest.mark.slow
def test_a_part_that_cannot_move_stays_and_is_counted() -> None:
    with pretended():
        sampler = Sampler(tiny_sd().to("cuda"))
        for part in (sampler.backbone.pipe.text_encoder, sampler.backbone.pipe.unet):
            part.is_loaded_in_8bit = True  # by bitsandbytes before 0.48
        sampler.backbone.reside(CUDA, crowded=False)
        held = sampler.backbone.bytes_held()
        assert not sampler.backbone.crowd()  # nothing could leave
        sampler.backbone.reside(CUDA, crowded=True)
        sampler.backbone.enter(encoding=True)
        assert places(sampler) == {"text_encoder", "unet"}
        sampler.backbone.enter(encoding=False)
        assert places(sampler) == {"text_encoder", "unet", "vae"}
        assert sampler.backbone.bytes_held() == held


@pytest.mark.slow
def test_encoders_stay_if_quantization_makes_room(card: list[int], tmp_path: Path, monkeypatch) -> None:
    pipe = tiny_sd()
    pipe.save_pretrained(tmp_path)
    card.append(bytes_of(load.modules_of(pipe).values()))
    monkeypatch.setattr(load, "check", lambda kind: None)
    monkeypatch.setattr(options, "check", lambda kind: None)
    monkeypatch.setattr(options, "quantize", lambda pipe, kind, device: pipe.to(torch.float16))
    with pretended():
        assert Sampler(tmp_path, device="cuda", dtype="fp32").backbone.crowded
        quantized = Sampler(tmp_path, device="cuda", dtype="fp32", model_options=ModelOptions(quantize="nf4"))
        assert not quantized.backbone.crowded and places(quantized) == {"text_encoder", "unet", "vae"}
