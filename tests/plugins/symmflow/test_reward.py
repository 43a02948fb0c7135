"""The reward: its closed form, its gradient, and what it asks of prompts."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from steer import Prompt, Sampler, SteerError
from steer_symmflow.reward import Agreement, agreement


def test_agreement_of_hand_cases() -> None:
    sure = torch.tensor([[9.0, -9.0], [-9.0, 9.0]]) * 9
    assert agreement(sure, torch.tensor([0, 0])).tolist() == pytest.approx([1.0, 0.0])
    # four pixels: label 1 is asked of two and read off one of them and one other; label 2 is neither
    asked = torch.tensor([[[1, 1], [0, 0]]])
    read = torch.tensor([[[1, 0], [1, 0]]])
    logits = 99.0 * torch.nn.functional.one_hot(read, 3).movedim(-1, 1).float()
    assert agreement(logits, asked).tolist() == pytest.approx([1 / 3])
    assert agreement(99.0 * torch.nn.functional.one_hot(asked, 3).movedim(-1, 1).float(), asked).tolist() == [1.0]
    # undecided between two labels: p = 1/2 everywhere, so 1 / (2 + 1) for either
    halves = torch.tensor([0.0, 0.0, -99.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert agreement(halves, asked).tolist() == pytest.approx([1 / 3])


@pytest.mark.parametrize("kind", ["masks", "classes"])
def test_scores_do_not_depend_on_the_batch_and_have_gradients(folders, kind: str) -> None:
    reward = Agreement(argument=f"{folders[kind]}")
    asked = [Prompt("x", metadata={"mask": str(folders["mask"]), "class": "disc"})] * 3
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    together = reward(images, asked)
    assert together.shape == (3,) and bool(((together >= 0) & (together <= 1)).all())
    alone = torch.cat([reward(image[None], asked[:1]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)
    image = images[:1].double().float().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(image, asked[:1]).sum(), image)
    step = 0.05 * gradient / gradient.norm()
    gain = reward(image.detach() + step, asked[:1]) - reward(image.detach() - step, asked[:1])
    assert float(gain) == pytest.approx(0.1 * float(gradient.norm()), rel=0.1)


@pytest.mark.slow
def test_it_steers_a_text_model_and_says_what_it_misses(folders) -> None:
    prompts = [Prompt("a red circle", metadata={"class": "box"}, seed=1)]
    reward = f"symmflow:{folders['classes']}"
    result = Sampler("shapes", device="cpu").generate(prompts, methods=["fk"], reward=reward, particles=2, steps=2)
    assert len(result.items) == 1
    with pytest.raises(SteerError, match="compares with the prompt's class, and prompt y has none"):
        Agreement(argument=str(folders["classes"]))(torch.rand(1, 3, 16, 16), [Prompt("x", id="y")])
    small = folders["mask"].parent / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    asked = Prompt("x", id="y", metadata={"mask": str(small)})
    with pytest.raises(SteerError, match="mask of prompt y is 8x8, the model's are 16x16"):
        Agreement(argument=str(folders["masks"]))(torch.rand(1, 3, 16, 16), [asked])
