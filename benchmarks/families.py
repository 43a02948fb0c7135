"""Images per second and peak memory of the model families at full size, with random weights.

    python benchmarks/families.py [--device cuda] [--family sd15 …] [--smoke] [--json]

Weights are random: time and memory do not depend on their values. The text encoders have their full width and one
layer, for prompts are encoded once and are not what is measured. The reward is the mean brightness, so that its own
cost is nothing. ``--smoke`` shrinks everything, to try the script without a GPU.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from steer import Sampler
from steer.models.options import ModelOptions

WORDS = ["a", "red", "circle", "blue", "square"]
VOCABULARY = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{word}</w>": i + 2 for i, word in enumerate(WORDS)}}
PROMPTS = ["a red circle", "a blue square"]
VARIANTS = (("plain", 1), ("fk", 4), ("fk", 8))


def tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer of a few words."""
    return CLIPTokenizer(vocab=VOCABULARY, merges=[], model_max_length=77)


def clip_text(width: int, projection: bool = False) -> Any:
    """Return a text encoder of the given width and one layer."""
    config = CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=width, intermediate_size=width, num_hidden_layers=1,
        num_attention_heads=8, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5_text(width: int) -> T5EncoderModel:
    """Return a T5 encoder of the given width and one layer."""
    return T5EncoderModel(
        T5Config(vocab_size=len(VOCABULARY), d_model=width, d_kv=64, d_ff=64, num_layers=1, num_heads=2)
    )


def vae(channels: int, smoke: bool, **config: Any) -> AutoencoderKL:
    """Return the KL autoencoder of Stable Diffusion's size with so many latent channels."""
    widths = (8, 8, 16, 16) if smoke else (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths, layers_per_block=2, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8 if smoke else 32, **config,
    )  # fmt: skip


def ddim() -> DDIMScheduler:
    """Return Stable Diffusion's schedule, on the CPU as one that was loaded."""
    with torch.device("cpu"):
        return DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        )  # fmt: skip


def sd15(smoke: bool) -> StableDiffusionPipeline:
    """Return Stable Diffusion 1.5 at 512 px."""
    size = {"block_out_channels": (32, 32, 64, 64), "sample_size": 8, "norm_num_groups": 8} if smoke else {}
    unet = UNet2DConditionModel(**{"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, **size})
    return StableDiffusionPipeline(
        vae=vae(4, smoke), text_encoder=clip_text(768), tokenizer=tokenizer(), unet=unet, scheduler=ddim(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(smoke: bool) -> StableDiffusionXLPipeline:
    """Return SDXL at 1024 px."""
    size = {"block_out_channels": (32, 64, 64), "sample_size": 8, "norm_num_groups": 8} if smoke else {}
    unet = UNet2DConditionModel(
        **{
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20) if not smoke else 8,
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
            **size,
        }
    )
    return StableDiffusionXLPipeline(
        vae=vae(4, smoke, force_upcast=False), text_encoder=clip_text(768), text_encoder_2=clip_text(1280, True),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), unet=unet, scheduler=ddim(), add_watermarker=False,
    )  # fmt: skip


def sd3(smoke: bool) -> StableDiffusion3Pipeline:
    """Return SD3-medium at 1024 px."""
    size = {"num_layers": 1, "sample_size": 8, "num_attention_heads": 2, "caption_projection_dim": 128} if smoke else {}
    transformer = SD3Transformer2DModel(
        **{
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
            "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
            "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192, **size,
        }
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, vae=vae(16, smoke, shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=clip_text(768, True), text_encoder_2=clip_text(1280, True), text_encoder_3=t5_text(4096),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), tokenizer_3=tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def flux(smoke: bool) -> FluxPipeline:
    """Return Flux.1-dev at 1024 px."""
    size = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2} if smoke else {}
    transformer = FluxTransformer2DModel(guidance_embeds=True, **size)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return FluxPipeline(
        transformer=transformer, vae=vae(16, smoke, shift_factor=0.1159, scaling_factor=0.3611), scheduler=scheduler,
        text_encoder=clip_text(768), text_encoder_2=t5_text(4096), tokenizer=tokenizer(), tokenizer_2=tokenizer(),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[bool], Any]] = {"sd15": sd15, "sdxl": sdxl, "sd3": sd3, "flux": flux}


def preview_folder(channels: int, where: str) -> str:
    """Write a random preview decoder of TAESD's size and return its folder."""
    AutoencoderTiny(latent_channels=channels).save_pretrained(where)
    return where


def brightness(samples: torch.Tensor, prompts: Any) -> torch.Tensor:
    """Return the mean of each image."""
    return samples.mean(dim=(1, 2, 3))


def measure(sampler: Sampler, method: str, particles: int, steps: int, size: int | None) -> dict[str, float]:
    """Return images per second and peak memory of a warm run."""
    cuda = sampler.backbone.device.type == "cuda"
    arguments: dict[str, Any] = {"particles": particles, "steps": steps, "choose": "all", "width": size, "height": size}
    if method != "plain":
        arguments.update(methods=[method], reward=brightness)
    sampler.generate(PROMPTS, **{**arguments, "steps": min(steps, 5)})
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = sampler.generate(PROMPTS, **arguments)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 1e9 if cuda else float("nan")
    return {"images_per_s": len(result.images) / seconds, "seconds": seconds, "peak_gb": peak, "nfe": result.cost.nfe}


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option(
    "--family", "families", multiple=True, type=click.Choice(list(FAMILIES)), help="Repeatable; all by default."
)
@click.option("--steps", default=30, show_default=True)
@click.option("--smoke", is_flag=True, help="Tiny sizes, to try the script.")
@click.option("--json", "as_json", is_flag=True)
def main(device: str, families: tuple[str, ...], steps: int, smoke: bool, as_json: bool) -> None:
    """Measure every family, plain and with FK, with and without a preview decoder."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("torch sees no CUDA device; give --device cpu --smoke to try the script")
    rows = []
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    for family in families or FAMILIES:
        torch.manual_seed(0)
        with torch.device(device) if device != "cpu" else nullcontext():
            torch.set_default_dtype(dtype)  # built where and as it is used: Flux in fp32 on the host takes 48 GB
            pipe = FAMILIES[family](smoke)
            torch.set_default_dtype(torch.float32)
        size = 64 if smoke and family in ("sd3", "flux") else None
        with tempfile.TemporaryDirectory() as folder:
            preview = preview_folder(pipe.vae.config.latent_channels, str(Path(folder) / "preview"))
            for name in (None, preview):
                sampler = Sampler(pipe, device=device, model_options=ModelOptions(preview=name))
                for method, particles in VARIANTS:
                    if name is not None and method == "plain":
                        continue
                    row = {"family": family, "method": method, "particles": particles, "preview": name is not None}
                    rows.append({**row, **measure(sampler, method, particles, steps, size)})
                    if not as_json:
                        click.echo(
                            " ".join(
                                f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in rows[-1].items()
                            )
                        )
        del pipe
        if device == "cuda":
            torch.cuda.empty_cache()
    machine = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    if as_json:
        click.echo(json.dumps({"machine": machine, "torch": torch.__version__, "steps": steps, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
