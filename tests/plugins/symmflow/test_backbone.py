"""A SymmFlow model in the sampler: the flow's own images, steered, and what it does not take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny import brightness

from steer import Prompt, Sampler, SteerError
from steer_symmflow import infer, semantics
from steer_symmflow.model import begun_from, load
from steer_symmflow.train.cli import unet_config


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_sampler_draws_what_the_flow_draws(folders, solver: str) -> None:
    model = load(folders["classes"])
    prompts = [Prompt(name, id=name, seed=7, metadata={"class": name}) for name in ("box", "disc")]
    result = Sampler(f"symmflow:{folders['classes']}", device="cpu").generate(
        prompts, steps=3, scheduler=solver, chunk=2
    )
    noise = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(7)).expand(2, -1, -1, -1)
    planes = semantics.class_planes(torch.tensor([1, 2]), 3, 4.0, (3, 16, 16))
    expected = infer.draw(model, planes, noise, steps=3, solver=solver)
    for item, image in zip(result.items, expected, strict=True):
        drawn = torch.from_numpy(np.array(item.images[0])).permute(2, 0, 1)
        assert ((image * 255).round() - drawn).abs().max() <= 1


@pytest.mark.arithmetic
def test_fk_steers_images_drawn_from_a_mask(folders) -> None:
    prompts = [Prompt(f"box {i}", seed=10 * i, metadata={"mask": str(folders["mask"])}) for i in range(12)]
    sampler = Sampler(f"symmflow:{folders['masks']}", device="cpu")

    def means(methods: list[str]) -> torch.Tensor:
        result = sampler.generate(
            prompts, methods=methods, reward=brightness, particles=4, steps=5, eta=1.0, chunk=24,
            options={"fk": {"lambda": 1000.0}} if methods else None,
        )  # fmt: skip
        return torch.tensor([item.mean_reward for item in result.items])

    gain = means(["fk"]) - means([])
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


def test_a_student_of_another_kind_of_model_is_refused(folders) -> None:
    prompt = Prompt("box", metadata={"mask": str(folders["mask"])})
    with pytest.raises(SteerError, match="students of diffusers pipelines only, and this model is not one"):
        Sampler(f"symmflow:{folders['masks']}", device="cpu").generate([prompt], methods="dmd2")


def test_what_a_model_cannot_draw_from_is_said(folders, tmp_path: Path) -> None:
    masks, classes = (Sampler(f"symmflow:{folders[kind]}", device="cpu") for kind in ("masks", "classes"))

    def message(sampler: Sampler, **metadata: object) -> str:
        with pytest.raises(SteerError) as caught:
            sampler.generate([Prompt("x", metadata=metadata)], steps=1)
        return str(caught.value)

    assert "draws from a class; give one with --class" in message(classes)
    assert "draws from a mask, got a class" in message(masks, **{"class": "box"})
    assert "did you mean 'disc'" in message(classes, **{"class": "disk"})
    for name in ("3", "-1"):
        assert f"class {name}: the model has 3 classes, 0 (none) to 2 (disc)" in message(classes, **{"class": name})
    assert "unknown class '²'" in message(classes, **{"class": "²"})
    odd = tmp_path / "odd.png"
    Image.new("RGB", (16, 16), (1, 2, 3)).save(odd)
    assert "has the color (1, 2, 3) at (0, 0), which no label has" in message(masks, mask=str(odd))
    masks.generate([Prompt("x", metadata={"mask": str(odd), "nearest": True})], steps=1)
    Image.new("RGB", (8, 8)).save(odd)
    assert "is 8x8, the model's are 16x16" in message(masks, mask=str(odd))
    for setting in ({"guidance_scale": 7.5}, {"negative": "blurry"}):
        with pytest.raises(SteerError, match="has no guidance; leave --guidance and the negative prompt out"):
            classes.generate([Prompt("x", metadata={"class": "box"})], steps=1, **setting)
    with pytest.warns(UserWarning, match="no effect: this model is never guided; leave it out"):
        classes.generate([Prompt("x", metadata={"class": "box", "negative": "blurry"})], steps=1)
    with pytest.raises(SteerError, match="eta=1 needs --scheduler euler"):
        classes.generate([Prompt("x", metadata={"class": "box"})], steps=1, eta=1.0, scheduler="rk4")
    with pytest.raises(SteerError, match="there is no such folder"):
        Sampler("symmflow:nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("last", [{}, {"mask": "nowhere.png"}, {"mask": "odd.png"}, {"mask": "small.png"}])
@pytest.mark.parametrize("model", ["symmflow", "shapes"])
def test_a_mistake_in_the_last_prompt_is_told_before_anything_is_drawn(folders, tmp_path, last, model) -> None:
    """Whether a model draws from the masks or a reward compares with them."""
    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "odd.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    own = {key: str(tmp_path / name) for key, name in last.items()}
    prompts = [Prompt(f"x {i}", seed=i, metadata={"mask": str(folders["mask"])}) for i in range(2)]
    more = {"judge": f"symmflow:{folders['masks']}"} if model == "shapes" else {}
    sampler = Sampler(f"symmflow:{folders['masks']}" if model == "symmflow" else model, device="cpu")
    drawn = sampler.stream([*prompts, Prompt("the last", seed=9, metadata=own)], particles=64, steps=1, **more)
    with pytest.raises(SteerError, match=r"of prompt 'the last'|prompt 'the last'|nowhere\.png does not exist"):
        next(drawn)


def test_a_checkpoint_of_another_layout_is_refused_whole(folders, tmp_path: Path) -> None:
    other = load(folders["masks"])
    other.unet = type(other.unet)(**{**unet_config((32, 32), 2, (16, 16)), "norm_num_groups": 8})
    other.save(tmp_path, torch.float32)
    (tmp_path / "symmflow.json").write_bytes((folders["masks"] / "symmflow.json").read_bytes())
    with pytest.raises(SteerError, match=r"does not fit this symmflow model: .* of another shape"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colors": [[0, 0], [1, 1], [2, 2]]}, "three whole numbers"),
        ({"labels": ["a", "a", "b"]}, "expected distinct texts"),
        ({"labels": [1, 2, 3]}, "expected distinct texts"),
        ({"size": [16]}, "expected height and width"),
        ({"size": [17, 16]}, "size 16x17 does not fit this network: expected multiples of 4"),
        ({"patch": 0}, "patch 0"),
        ({"beta": -1}, "beta is -1"),
        ({"unet": {"foo": 1}}, "cannot be read"),
    ],
)
def test_a_damaged_configuration_is_told_at_once(folders, tmp_path: Path, change: dict, message: str) -> None:
    data = json.loads((folders["masks"] / "symmflow.json").read_text())
    (tmp_path / "symmflow.json").write_text(json.dumps(data | change))
    (tmp_path / "model.safetensors").write_bytes((folders["masks"] / "model.safetensors").read_bytes())
    with pytest.raises(SteerError, match=message):
        load(tmp_path)


def test_a_flow_begins_from_another_ones_network(folders) -> None:
    masks, classes = (load(folders[kind]) for kind in ("masks", "classes"))
    begun = begun_from(masks, classes.config)
    z = torch.randn(1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    assert begun.config.kind == "classes"
    assert torch.equal(begun.eval()(z, 0.3), masks(z, 0.3))
    assert all(p.requires_grad for p in begun.unet.parameters())
    with pytest.raises(SteerError, match="size 18x16 does not fit this network"):
        begun_from(masks, replace(classes.config, size=(16, 18)))
