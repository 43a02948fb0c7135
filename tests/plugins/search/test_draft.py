"""Drafts: what is redone is what it stands for, to the bit; what is spent; what cannot be drafted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.any_pipelines import image_kinds
from support.commands import Steer
from support.tiny import brightness
from torch.utils.flop_counter import FlopCounterMode

from steer import Prompt, Sampler, SteerError

TEXTS = ["a red circle", "a blue square", "the photo"]
STEPS, N, KEEP = 4, 5, 2
GUIDED = 2
FULL = STEPS * GUIDED
"""Evaluations of a sample."""


@pytest.fixture(scope="module")
def sampler(tiny_pipe) -> Sampler:
    return Sampler(tiny_pipe)


def generate(sampler: Sampler, prompts: Any = TEXTS, **arguments: Any):
    settings = {"steps": STEPS, "guidance_scale": 3.0, "chunk": 4, "reward": brightness, "seed": 5, **arguments}
    return sampler.generate(prompts, **settings)


def draft(sampler: Sampler, prompts: Any = TEXTS, *, methods: Any = "draft", **arguments: Any):
    given = {name: arguments.pop(name) for name in ("n", "nfe", "keep", "cache", "steps") if name in arguments}
    return generate(sampler, prompts, methods=methods, options={"draft": given}, **arguments)


def candidates(trace: dict[str, Any], origin: str) -> dict[int, float]:
    """Return the reward of each slot's candidate of an origin."""
    events = [event for event in trace["events"] if event["kind"] == "candidate"]
    return {
        slot: reward
        for event in events
        for slot, reward, found in zip(event["slots"], event["reward"], event["origin"], strict=True)
        if found == origin
    }


def best(rewards: dict[int, float], count: int) -> set[int]:
    return set(sorted(rewards, key=lambda slot: -rewards[slot])[:count])


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("how", [{"cache": 2}, {"steps": 2}, {"steps": 3, "cache": 2}, {}], ids=str)
def test_the_best_drafts_are_redone_as_plain_samples_to_the_bit(sampler, eta, how) -> None:
    plain = generate(sampler, particles=N, eta=eta)
    found = draft(sampler, n=N, keep=KEEP, choose="all", eta=eta, **how)
    for one, all_ in zip(found.items, plain.items, strict=True):
        drafts, finished = candidates(one.trace, "draft"), candidates(one.trace, "finished")
        assert list(drafts) == list(range(N))
        assert {sample.slot for sample in one.samples} == set(finished) == best(drafts, KEEP)
        for sample in one.samples:
            twin = all_.samples[sample.slot]
            assert sample.image.tobytes() == twin.image.tobytes()
            assert sample.reward == finished[sample.slot] == twin.reward
        assert one.trace["log_z"] is None  # who is redone is no weighted draw


@pytest.mark.slow
def test_a_draft_is_near_what_it_stands_for_and_its_rounds_and_neighbors_do_not_matter(sampler) -> None:
    plain = generate(sampler, particles=N, eta=1.0)
    rewards = [{sample.slot: sample.reward for sample in item.samples} for item in plain.items]
    crowd = draft(sampler, n=N, cache=2, eta=1.0)
    alone = draft(sampler, TEXTS[1], n=N, cache=2, eta=1.0, particles=2)
    drafts = [candidates(item.trace, "draft") for item in crowd.items]
    assert candidates(alone.items[0].trace, "draft") == drafts[1]
    for exact, cheap in zip(rewards, drafts, strict=True):
        assert exact != cheap  # a cache is no miracle
        exact, cheap = (torch.tensor([row[slot] for slot in range(N)]) for row in (exact, cheap))
        assert torch.corrcoef(torch.stack([exact, cheap]))[0, 1] > 0.9


@pytest.mark.slow
def test_steps_are_booked_as_they_are_and_reused_features_by_the_operations_that_are_left(sampler, tiny_pipe) -> None:
    few = draft(sampler, n=N, keep=KEEP, steps=3)
    assert few.cost.nfe == len(TEXTS) * (N * 3 * GUIDED + KEEP * FULL)

    unet, counter = tiny_pipe.unet, FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        unet(torch.zeros(1, 4, 8, 8), 0, encoder_hidden_states=torch.zeros(1, 16, unet.config.cross_attention_dim))
    counts = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    deep = ["down_blocks.1", "mid_block", "up_blocks.0"]
    share = 1 - sum(counts[f"UNet2DConditionModel.{name}"] for name in deep) / counts["UNet2DConditionModel"]
    cached = draft(sampler, n=N, keep=KEEP, cache=2)
    each = cached.cost.nfe / len(TEXTS)
    assert each == pytest.approx(N * (STEPS / 2) * GUIDED * (1 + share) + KEEP * FULL, rel=0.01)
    assert 0 < share < 0.9
    spent = [event["spent"][-1] for event in cached.items[0].trace["events"] if event["kind"] == "candidate"]
    assert spent[-1] == each and sorted(spent) == spent


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"cache": 2}, {"steps": 2}], ids=str)
def test_a_budget_buys_as_many_drafts_as_it_pays_for(sampler, how) -> None:
    nfe = 60
    found = draft(sampler, nfe=nfe, keep=KEEP, **how)
    count = {item.recipe.options["draft"]["n"] for item in found.items}
    assert len(count) == 1 and found.items[0].recipe.options["draft"]["nfe"] is None
    (n,) = count
    each = found.cost.nfe / len(TEXTS)
    one = (each - KEEP * FULL) / n
    assert nfe - one < each <= nfe
    for item in found.items:
        again = draft(sampler, str(item.prompt), **item.recipe.options["draft"])
        assert again.images[0].tobytes() == item.images[0].tobytes()


@pytest.mark.slow
def test_the_model_is_as_before_also_after_an_error(sampler, tiny_pipe) -> None:
    def broken(samples, prompts):
        raise KeyError("a bug")

    before = generate(sampler, TEXTS[0])
    places = {name: set(vars(module)) for name, module in tiny_pipe.unet.named_modules()}
    draft(sampler, TEXTS[0], n=2)
    with pytest.raises(Exception, match="a bug"):
        draft(sampler, TEXTS[0], n=2, reward=broken)
    hook = tiny_pipe.unet.mid_block.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draft(sampler, TEXTS[0], n=2)
    hook.remove()
    assert {name: set(vars(module)) for name, module in tiny_pipe.unet.named_modules()} == places
    assert generate(sampler, TEXTS[0]).images[0].tobytes() == before.images[0].tobytes()


@pytest.mark.slow
def test_it_goes_with_guiders_and_within_best_of_n(sampler) -> None:
    plain = generate(sampler, TEXTS[0], particles=N, methods="apg")
    found = draft(sampler, TEXTS[0], methods=["draft", "apg"], n=N, keep=1, cache=2)
    (sample,) = found.items[0].samples
    assert sample.image.tobytes() == plain.items[0].samples[sample.slot].image.tobytes()

    options = {"best-of-n": {"n": 6}, "draft": {"keep": 1, "cache": 2}}
    found = generate(sampler, TEXTS[0], methods=["best-of-n", "draft"], particles=3, options=options, choose="all")
    assert set(candidates(found.items[0].trace, "draft")) == set(range(6))
    assert len(found.items[0].samples) == 2  # one of each round


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in image_kinds() if kind.name in (
    "StableDiffusionInpaintPipeline", "StableDiffusion3Img2ImgPipeline")], ids=lambda kind: kind.name)  # fmt: skip
@pytest.mark.parametrize("how", [{"cache": 2}, {"steps": 3}], ids=str)
def test_pipelines_without_a_family_are_drafted_by_their_calls(kind, how) -> None:
    sampler = Sampler(kind.make())
    prompt = Prompt("a red circle", seed=5, metadata=kind.inputs)
    common = {"steps": kind.steps, "reward": brightness, "choose": "all", **kind.settings}
    plain = sampler.generate([prompt], particles=4, **common)
    found = sampler.generate([prompt], methods="draft", options={"draft": {"n": 4, "keep": 2, **how}}, **common)
    assert found.cost.nfe < plain.cost.nfe / 4 * 6
    drafts = candidates(found.items[0].trace, "draft")
    alone = sampler.generate([prompt], methods="draft", options={"draft": {"n": 1, "keep": 1, **how}}, slot=2, **common)
    assert candidates(alone.items[0].trace, "draft") == {2: drafts[2]}  # nothing of another particle is reused
    assert {sample.slot for sample in found.items[0].samples} == best(drafts, 2)
    for sample in found.items[0].samples:
        assert sample.image.tobytes() == plain.items[0].samples[sample.slot].image.tobytes()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 4}, "draft.steps=4 is not below the 4 steps"),
        ({"steps": 2, "timesteps": (900, 500, 100)}, "cannot shorten given timesteps"),
        ({"n": 3, "keep": 4}, "draft.keep=4 is more than the 3 drafts"),
        ({"particles": 2, "keep": 3}, "draft.keep=3 is more than the 2 drafts per prompt; lower it, or raise --part"),
        ({"cache": 1}, "draft.cache=1 reuses nothing"),
        ({"nfe": FULL}, "is less than 2 drafts"),
        ({"methods": ["draft", "fk"]}, "draft redoes samples as they are without methods, and fk"),
        ({"methods": ["carinox", "draft"]}, "and carinox draws or changes them itself"),
        ({"methods": ["prune", "draft"]}, "and prune draws"),
        ({"methods": ["draft", "best-of-n"]}, "and best-of-n draws"),
        ({"methods": ["best-of-n", "draft"], "n": 4}, "draft.n is for a draft of its own"),
        ({"reward": None}, "draft needs a reward"),
    ],
)
def test_what_cannot_be_drafted_is_said_before_anything_is_computed(sampler, tiny_pipe, given, said) -> None:
    def no(*_: Any) -> None:
        raise AssertionError("computed")

    hook = tiny_pipe.unet.register_forward_pre_hook(no)
    try:
        with pytest.raises(SteerError, match=said.replace(".", r"\.")):
            draft(sampler, TEXTS[0], **given)
    finally:
        hook.remove()


def test_a_budget_that_the_drafts_turn_out_to_exceed_is_said(sampler) -> None:
    with pytest.raises(SteerError, match=r"draft\.nfe=20 is less than 3 drafts and the samples"):
        draft(sampler, TEXTS[0], nfe=20, keep=3)


@pytest.mark.slow
def test_a_render_goes_on_and_an_image_is_made_again(steer: Steer, tiny: Path, place: Path) -> None:
    rows = [{"prompt": text, "id": f"p{number}"} for number, text in enumerate(TEXTS)]
    (place / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = ("-m", tiny, "-p", "draft", "-r", "rewards.py:brightness", "-o", "draft.n=3", "-o", "draft.cache=2",
           "--steps", STEPS, "--guidance", 3, "--eta", 1)  # fmt: skip
    assert steer("render", "p.jsonl", *how, "--out", "whole").code == 0
    assert steer("render", "p.jsonl", *how, "--out", "half").code == 0
    journal = place / "half" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))
    (lost,) = (place / "half" / "images").glob("p2*.png")
    lost.unlink()
    assert steer("render", "p.jsonl", *how, "--out", "half").code == 0
    for file in (place / "whole" / "images").glob("*.png"):
        assert (place / "half" / "images" / file.name).read_bytes() == file.read_bytes()
    assert json.loads(steer("replay", lost, "--allow-files", "--json").out)["equal"] is True


@pytest.mark.slow
def test_it_is_compared_at_equal_cost(steer: Steer, tiny: Path, place: Path) -> None:
    (place / "p.txt").write_text("".join(f"{text}\n" for text in [*TEXTS, "a red square", "a blue circle"]))
    (place / "judge.py").write_text("def red(samples, prompts): return samples[:, 0].mean(dim=(1, 2))\n")
    done = steer("compare", "p.txt", "-m", tiny, "--method", "draft:keep=2,cache=2", "--method", "best-of-n",
                 "-r", "rewards.py:brightness", "--judge", "judge.py:red", "--steps", STEPS, "--guidance", 3,
                 "--budget", "nfe=64", "--out", "c")  # fmt: skip
    assert done.code == 0, done.err
    lines = {line["label"]: line for line in json.loads((place / "c" / "summary.json").read_text())["lines"]}
    assert lines["best-of-n"]["cost"]["nfe"] == 64
    (found,) = (line for label, line in lines.items() if label != "best-of-n")
    assert 64 - FULL < found["cost"]["nfe"] <= 64
