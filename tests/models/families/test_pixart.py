"""What is PixArt's own: captions in lower case, long texts, one-step checkpoints, Σ's autoencoder."""

from __future__ import annotations

import warnings

import diffusers
import pytest
import torch
from support.families.pixart import EXACT, tiny_alpha, tiny_sigma

from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run


@pytest.mark.parametrize(("make", "room"), [(tiny_alpha, 119), (tiny_sigma, 299)], ids=["alpha", "sigma"])
def test_a_text_beyond_the_room_of_the_encoder_is_shown(make, room) -> None:
    backbone = load_model(make(), manager()).backbone
    kept = " ".join(["circle"] * room)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.encode([Prompt(kept.upper())], [""], 1.0)  # spelled out, upper case would have more tokens
    with pytest.warns(UserWarning, match=rf"has {room + 1} tokens, the text encoder takes {room}; cut off: 'square'"):
        cut = backbone.encode([Prompt(f"{kept} square")], [""], 1.0)
    assert torch.equal(cut.cond["text"], backbone.encode([Prompt(kept)], [""], 1.0).cond["text"])


def test_one_step_at_a_timestep_of_its_own_equals_stock() -> None:
    """How PixArt-α-DMD is called; stock returns the estimate of x0 then, and so does the only step."""
    pipe = tiny_alpha()
    settings = {"steps": 1, "timesteps": (400,), "scheduler": "ddpm", "guidance_scale": 1.0}
    backbone = load_model(pipe, manager()).backbone
    ours = make_run(backbone, [Prompt("a red circle", seed=5)], settings=settings).search().x
    pipe.scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    theirs = pipe(
        "a red circle", timesteps=[400], num_inference_steps=1, guidance_scale=1.0, output_type="latent",
        generator=torch.Generator().manual_seed(5), **EXACT,
    ).images  # fmt: skip
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_the_autoencoder_that_sigma_shares_with_sdxl_decodes_in_fp32() -> None:
    pipe = tiny_sigma()
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = load_model(pipe, manager()).backbone.decode(x)
    pipe.vae.half()
    assert (load_model(pipe, manager()).backbone.decode(x) - whole).abs().max() <= 1e-2
    assert pipe.vae.dtype == torch.float16
