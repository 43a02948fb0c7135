"""Stage 2: text to image, with a text encoder and a U-Net on the autoencoder's latents."""

from collections import defaultdict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel

from steer.training import Draw, Machine

from ..captions import rephrase, sample_requirements
from ..grammar import CATEGORIES, parse_prompt
from ..layout import draw_scene
from ..render import render_batch
from ..reward import ShapesReward
from . import tokenizer as tokenizers
from .data import save_sheet, to_tensor
from .stage import Recipe, Stage

RECIPE = Recipe(steps=3000, batch=64, rate=1e-3, warmup=200, ema=0.999)
SCENES = 40_000
"""Scenes whose latents are computed once, before training."""
CAPTION_DROPOUT = 0.1
SNR_CLIP = 5.0
"""Min-SNR weighting: steps with little noise count less, because the layout is decided before them."""


def scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build() -> nn.ModuleDict:
    """Return the untrained text encoder and U-Net."""
    words = tokenizers.build()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizers.MAX_LENGTH,
            projection_dim=128,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        # Attention at 8x8 and 4x4 only, because at 16x16 it costs more than everything else together.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    ).to(memory_format=torch.channels_last)
    return nn.ModuleDict({"text_encoder": text, "unet": unet})


def pipeline(vae: AutoencoderKL, modules: nn.ModuleDict) -> StableDiffusionPipeline:
    """Return all parts as a standard pipeline."""
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=modules["text_encoder"],
        tokenizer=tokenizers.build(),
        unet=modules["unet"],
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, seed: int, count: int, machine: Machine) -> dict[str, object]:
    """Draw training scenes; return their captions and latents (mean and sd, fp16, on the CPU)."""
    rng = Draw(seed, "t2i-scenes", 0).rng
    captions: list[str] = []
    means, stds = [], []
    for start in range(0, count, 256):
        drawn = [draw_scene(rng) for _ in range(min(256, count - start))]
        captions += [requirements.text() for requirements, _ in drawn]
        images = to_tensor(render_batch([scene for _, scene in drawn])) * 2 - 1
        with machine.autocast():
            posterior = vae.encode(images.to(machine.device)).latent_dist
        means.append(posterior.mean.half().cpu())
        stds.append(posterior.std.half().cpu())
    return {"captions": captions, "mean": torch.cat(means), "std": torch.cat(stds)}


class TextToImageStage(Stage):
    """Epsilon prediction with caption dropout and min-SNR weighting."""

    name = "t2i"
    split = ("text_encoder", "unet")
    build = staticmethod(build)

    def __init__(self, recipe: Recipe, machine: Machine, vae: AutoencoderKL, folder: Path) -> None:
        """Encode the training scenes, unless the folder of a resumed run has them."""
        super().__init__(recipe, machine, vae, folder)
        self.tokenizer = tokenizers.build()
        self.alphas = scheduler().alphas_cumprod
        data = self.cached("latents.pt", lambda: encode_scenes(vae, recipe.seed, SCENES, machine))
        self.requirements = [parse_prompt(caption) for caption in data["captions"]]
        self.mean, self.std = data["mean"], data["std"]

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the weighted loss and the plain squared error of a batch of scenes."""
        rng, count, device = draw.rng, self.recipe.batch, self.machine.device
        rows = rng.integers(len(self.requirements), size=count)
        captions = [rephrase(self.requirements[row], rng, "train").text() for row in rows]
        captions = ["" if rng.random() < CAPTION_DROPOUT else text for text in captions]
        mean, std = self.mean[rows].float(), self.std[rows].float()
        clean = mean + std * draw.normal(*mean.shape)
        epsilon = draw.normal(*clean.shape)
        # One timestep from each of N equal parts has less variance than N independent ones.
        parts = (torch.arange(count) + draw.uniform(count)) / count
        timestep = (parts * len(self.alphas)).long()
        alpha = self.alphas[timestep][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * epsilon
        noisy = noisy.to(device, memory_format=torch.channels_last)
        # For so few tokens, plain attention is much faster than fused attention on a CPU.
        with self.machine.autocast(), sdpa_kernel(SDPBackend.MATH):
            states = self.modules["text_encoder"](tokenizers.encode(self.tokenizer, captions).to(device))[0]
            output = self.modules["unet"](noisy, timestep.to(device), encoder_hidden_states=states).sample
        error = (output.float().cpu() - epsilon).square().mean((1, 2, 3))
        ratio = (alpha / (1 - alpha)).flatten()
        weight = ratio.clamp(max=SNR_CLIP) / ratio
        return {"loss": (weight * error).mean(), "mse": error.mean()}

    def sheet(self, path: Path) -> dict[str, float]:
        """Write a sheet of samples for held-out prompts; return the mean reward and the share of exact images."""
        seed = self.recipe.seed
        rng = Draw(seed, "t2i-sheet", 0).rng
        names = [category for category in CATEGORIES for _ in range(8)]
        prompts = [sample_requirements(category, rng, "tune").text() for category in names]
        images = generate(pipeline(self.vae, self.averaged().to(self.machine.device)), prompts, seed=seed)
        save_sheet(images, path)
        return summarize(names, ShapesReward()(images, prompts))


def summarize(categories: list[str], rewards: Tensor) -> dict[str, float]:
    """Return the mean reward and the share of exact images, overall and by category."""
    exact: dict[str, list[bool]] = defaultdict(list)
    for category, reward in zip(categories, rewards.tolist(), strict=True):
        exact[category].append(reward == 1.0)
    shares = {f"exact_{name}": sum(values) / len(values) for name, values in exact.items()}
    overall = float((rewards == 1).float().mean())
    return {"reward": float(rewards.mean()), "exact": overall, **shares}


@torch.no_grad()
def generate(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    *,
    seed: int = 0,
    steps: int = 30,
    guidance: float = 4.0,
    eta: float = 1.0,
    batch: int = 16,
) -> Tensor:
    """Sample one image per prompt with DDIM: float [N, 3, 64, 64] in [0, 1]."""
    images = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        seeds = [torch.Generator().manual_seed(seed + start + row) for row in range(len(part))]
        out = pipe(part, num_inference_steps=steps, guidance_scale=guidance, eta=eta, generator=seeds, output_type="pt")
        images.append(out.images.float().cpu())
    return torch.cat(images)
