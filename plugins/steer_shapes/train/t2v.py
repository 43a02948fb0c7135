"""Stage 6: text to video, with Latte's transformer on the autoencoder's latents of every frame, and a small T5.

It trains on single frames first, which cost a ninth, and then on videos. Frames come from a grid of places, so that all
of them are encoded once.
"""

import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline, LatteTransformer3DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from steer.plugin import Videos
from steer.training import Draw, Machine, Update

from ..motion import ShapesVideo
from ..moving import DIRECTIONS, FPS, FRAMES, MOTIONS, SIZE_SHARE, Moving, held_out, sample_moving
from ..render import render
from ..scenes import CANVAS, COLORS, SHAPES, SIZES, SceneObject
from . import t2i
from .data import save_sheet, to_tensor
from .stage import Recipe, Stage

RECIPE = Recipe(steps=9000, batch=16, rate=2e-3, warmup=60, ema=0.995)
IMAGE_STEPS = 500
"""Steps on single frames, before those on videos."""
IMAGES = 3
"""Single frames for each video of a batch."""
SHEET = 34
"""Samples of a sheet, for as many held-out combinations."""
CAPTION_DROPOUT = 0.1
LENGTH = 120
"""Tokens of a prompt; the pipeline has no other length."""
WIDTH, HEADS, LAYERS = 96, 4, 3
TEXT_WIDTH = 64
RADIUS = {"small": 8.0, "large": 11.75}
STEP = 4
"""Pixels between consecutive frames, which is one latent, so that tokens repeat."""
LANES = (18, 34, 50)
"""Places across a motion: a token apart, which is 16 pixels."""
FIRST = {"small": (10, 14, 18, 22), "large": (14, 18)}
"""Places along it at which the way begins, in pixels from the left or the top."""
NOISY = 0.7
"""Noise from here on hides where an object goes, so that the words have to say it."""
WEIGHT_CLIP = 5.0
"""Errors of the clean latents are weighted like those of v, up to this: noise has no part in what is predicted."""
INPUTS = {"video_length": FRAMES, "clean_caption": False}
"""Arguments of the pipeline's call that the model is trained for."""
DEFAULTS = {"steps": 25, "guidance_scale": 1.5, "eta": 1.0, "width": CANVAS, "height": CANVAS, "inputs": INPUTS}
"""Default settings for sampling the model."""


def tokenizer() -> T5TokenizerFast:
    """Return a T5 tokenizer with a token for each word of the sentences; other words are spelled."""
    words = ["a", "an", *COLORS, *SHAPES, *SIZES, *(word for said in MOTIONS.values() for word in said.split())]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    letters = [(letter, -5.0) for letter in string.ascii_lowercase]
    pieces = [(f"▁{word}", -1.0) for word in dict.fromkeys(words)]
    return T5TokenizerFast(vocab=[*special, *letters, *pieces], extra_ids=0, model_max_length=LENGTH)


def scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule, for a model that predicts clean latents.

    A token has 64 values and the transformer 96 channels: noise would fill them.
    """
    return DDIMScheduler.from_config(t2i.scheduler().config, prediction_type="sample")


def build() -> nn.ModuleDict:
    """Return the untrained text encoder and transformer."""
    text = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer()),
            d_model=TEXT_WIDTH,
            d_kv=TEXT_WIDTH // 4,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )
    transformer = LatteTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        cross_attention_dim=WIDTH,
        num_layers=LAYERS,
        in_channels=4,
        out_channels=8,  # the pipeline drops the second half, which is for learned variances
        sample_size=16,
        patch_size=4,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=TEXT_WIDTH,
        video_length=FRAMES,
    )
    return nn.ModuleDict({"text_encoder": text, "transformer": transformer})


def pipeline(vae: AutoencoderKL, modules: nn.ModuleDict) -> LattePipeline:
    """Return all parts as a standard pipeline."""
    pipe = LattePipeline(
        tokenizer=tokenizer(),
        text_encoder=modules["text_encoder"],
        vae=vae,
        transformer=modules["transformer"],
        scheduler=scheduler(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def places(size: str) -> range:
    """Return the places along a motion, in pixels."""
    return range(FIRST[size][0], FIRST[size][-1] + STEP * (FRAMES - 1) + 1, STEP)


@torch.no_grad()
def encode_frames(vae: AutoencoderKL, machine: Machine) -> dict[str, Tensor]:
    """Return the latents of all objects at all places, by size: fp16 ``[8, 5, 2, 3, along, 4, 16, 16]`` on the CPU:
    by color, shape, axis of the motion, place across and along it."""
    found = {}
    for size in SIZES:
        latents = []
        for color in COLORS:
            frames = []
            for shape in SHAPES:
                for axis in range(2):
                    for beside in LANES:
                        for at in places(size):
                            x, y = (at, beside) if axis == 0 else (beside, at)
                            frames.append(render((SceneObject(shape, color, size, "plain", x, y, RADIUS[size]),)))
            for part in torch.from_numpy(np.stack(frames)).split(64):
                images = to_tensor(part.numpy()) * 2 - 1
                with machine.autocast():
                    latents.append(vae.encode(images.to(machine.device)).latent_dist.mean.half().cpu())
        shape_of = (len(COLORS), len(SHAPES), 2, len(LANES), len(places(size)), 4, 16, 16)
        found[size] = torch.cat(latents).reshape(shape_of)
    return found


def timesteps(uniform: Tensor) -> Tensor:
    """Return N timesteps in [0, 1), of uniform numbers ``[N]``: every other one is of the noisiest.

    One from each of N equal parts has less variance than N independent ones.
    """
    parts = (torch.arange(len(uniform)) + uniform) / len(uniform)
    parts[1::2] = NOISY + (1 - NOISY) * parts[1::2]
    return parts


class TextToVideoStage(Stage):
    """Prediction of clean latents, with caption dropout."""

    name = "t2v"
    split = ("text_encoder", "transformer")
    build = staticmethod(build)

    def __init__(self, recipe: Recipe, machine: Machine, vae: AutoencoderKL, folder: Path) -> None:
        """Encode the frames, unless the folder of a resumed run has them."""
        super().__init__(recipe, machine, vae, folder)
        self.tokenizer = tokenizer()
        self.alphas = scheduler().alphas_cumprod
        self.frames: dict[str, Tensor] = self.cached("frames.pt", lambda: encode_frames(vae, machine))

    def updates(self, step: int) -> Iterator[Update]:
        """Yield one update, on single frames or on videos."""
        for update in super().updates(step):
            yield Update(
                update.part,
                update.rate,
                lambda part: self.losses(Draw(self.recipe.seed, self.name, step, part), images=step < IMAGE_STEPS),
            )

    def losses(self, draw: Draw, images: bool = False) -> dict[str, Tensor]:
        """Return the weighted squared error of a batch of videos, or of single frames."""
        rng, device = draw.rng, self.machine.device
        count = self.recipe.batch * (IMAGES if images else 1)
        asked = [sample_moving(rng) for _ in range(count)]
        # The pipeline cuts the embeddings after the prompt, those of the empty prompt too. So all captions of a batch
        # have as many tokens: they name a size, or none does.
        sized = rng.random() < SIZE_SHARE
        sizes = [SIZES[rng.integers(len(SIZES))] if sized else None for _ in asked]
        asked = [replace(one, phrase=replace(one.phrase, size=size)) for one, size in zip(asked, sizes, strict=True)]
        captions = ["" if rng.random() < CAPTION_DROPOUT else one.text() for one in asked]
        clean = torch.stack([self.latents(one, rng) for one in asked]).float().transpose(1, 2)
        if images:
            clean = clean[:, :, [int(rng.integers(FRAMES))]]
        noise = draw.normal(*clean.shape)
        timestep = (timesteps(draw.uniform(count)) * len(self.alphas)).long()
        alpha = self.alphas[timestep].view(-1, 1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        tokens = self.tokenizer(captions, padding="longest", return_tensors="pt").to(device)
        with self.machine.autocast():
            states = self.modules["text_encoder"](tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            output = self.modules["transformer"](
                noisy.to(device), timestep=timestep.to(device), encoder_hidden_states=states
            ).sample.chunk(2, dim=1)[0]
        error = (output.float().cpu() - clean).square().mean((1, 2, 3, 4))
        weight = (1 / (1 - alpha)).flatten().clamp(max=WEIGHT_CLIP)
        return {"loss": (weight * error).mean(), "mse": error.mean()}

    def latents(self, asked: Moving, rng: np.random.Generator) -> Tensor:
        """Draw a video of what is asked for, as latents ``[9, 4, 16, 16]``."""
        size = asked.phrase.size or SIZES[rng.integers(len(SIZES))]
        frames = self.frames[size][COLORS.index(asked.phrase.color or ""), SHAPES.index(asked.phrase.shape)]
        direction = DIRECTIONS[asked.motion]
        axis = int(direction[1] != 0) if any(direction) else int(rng.integers(2))
        frames = frames[axis, rng.integers(len(LANES))]
        if not any(direction):
            return frames[rng.integers(len(frames))].expand(FRAMES, -1, -1, -1)
        start = int(rng.integers(len(FIRST[size])))
        way = frames[start : start + FRAMES]
        return way if sum(direction) > 0 else way.flip(0)

    def sheet(self, path: Path) -> dict[str, float]:
        """Write a sheet of samples for held-out prompts, every other frame; return their mean score and shares met."""
        asked = (held_out("tune") * SHEET)[:SHEET]
        prompts = [one.text() for one in asked]
        videos = generate(pipeline(self.vae, self.averaged().to(self.machine.device)), prompts, seed=self.recipe.seed)
        save_sheet(videos.frames(range(0, FRAMES, 2)).flatten(0, 1), path, columns=10)
        return summarize(asked, videos)


def summarize(asked: list[Moving], videos: Videos) -> dict[str, float]:
    """Return the mean score of videos, the share that shows its whole sentence, and the shares that show a part."""
    verifier = ShapesVideo()
    score = verifier(videos, [one.text() for one in asked])
    found = [verifier.met(video, one) for video, one in zip(verifier.read(videos), asked, strict=True)]
    parts = {name: sum(one[name] for one in found) / len(found) for name in found[0]}
    return {"score": float(score.mean()), "exact": float((score == 1).float().mean()), **parts}


@torch.no_grad()
def generate(
    pipe: LattePipeline, prompts: list[str], *, seed: int = 0, steps: int = 25, guidance: float = 1.5, eta: float = 1.0
) -> Videos:
    """Sample one video per prompt, of 9 frames of 64x64; one at a time, because the pipeline pads the embeddings of
    several prompts."""
    videos = []
    for row, prompt in enumerate(prompts):
        out = pipe(
            prompt, width=CANVAS, height=CANVAS, num_inference_steps=steps, eta=eta, guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed + row), output_type="pt", **INPUTS,
        )  # fmt: skip
        videos.append(out.frames.float().cpu())
    return Videos(torch.cat(videos), FPS)
