"""What is SDXL's own: micro-conditioning, and a VAE that overflows in half precision."""

from __future__ import annotations

import diffusers
import pytest
import torch
from support.families.sd import tiny_sdxl

from steer import SteerError
from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

GIVEN = {"original_size": [48, 32], "crop": [3, 1], "target_size": [24, 16]}


@pytest.fixture(scope="module")
def pipe() -> diffusers.StableDiffusionXLPipeline:
    return tiny_sdxl()


def latents(pipe, *metadata: dict) -> torch.Tensor:
    prompts = [Prompt("a red circle", id=str(i), seed=5, metadata=given) for i, given in enumerate(metadata)]
    settings = {"steps": 4, "guidance_scale": 5.0, "width": 24, "height": 16, "chunk": 2}
    return make_run(load_model(pipe, manager()).backbone, prompts, settings=settings).search().x


@pytest.mark.slow
def test_micro_conditioning_of_a_prompt_equals_stock(pipe) -> None:
    default, given = latents(pipe, {}, GIVEN).split(1)
    sizes = {"original_size": (32, 48), "crops_coords_top_left": (1, 3), "target_size": (16, 24)}
    for ours, keywords in ((default, {}), (given, sizes)):
        stock = pipe(
            "a red circle", num_inference_steps=4, guidance_scale=5.0, width=24, height=16, output_type="latent",
            generator=torch.Generator().manual_seed(5), **keywords,
        ).images  # fmt: skip
        assert (ours - stock).abs().max() <= 1e-5 * stock.abs().max().clamp(min=1)
    assert (default - given).abs().max() > 1e-4


@pytest.mark.parametrize("value", ["1024x1024", [1024], [-1, 5], [True, 2], [1.5, 2]])
def test_sizes_that_are_none_are_refused(pipe, value) -> None:
    with pytest.raises(SteerError, match=r"original_size=.*expected two whole numbers of pixels"):
        latents(pipe, {"original_size": value})


def test_an_overflowing_half_precision_vae_decodes_in_fp32(pipe) -> None:
    backbone = load_model(pipe, manager()).backbone
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = backbone.decode(x)
    half = diffusers.AutoencoderKL.from_config(pipe.vae.config).eval()
    half.load_state_dict(pipe.vae.state_dict())
    half.half().register_to_config(force_upcast=True)
    parts = {**pipe.components, "vae": half}
    made = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    assert (load_model(made, manager()).backbone.decode(x) - whole).abs().max() <= 1e-2
    assert half.dtype == torch.float16
