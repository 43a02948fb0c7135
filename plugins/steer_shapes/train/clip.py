"""Stage 4: a CLIP for the shapes world, trained with captions and images that differ in one thing."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from steer import SteerError
from steer.training import Draw, Machine

from ..captions import TRAINING_MIXTURE, sample_requirements, split_of
from ..grammar import Requirements
from ..layout import LayoutError, sample_scene
from ..negatives import changes
from ..render import render_batch
from ..reward import score
from ..scenes import Scene
from ..verifier import Detection
from . import tokenizer as tokenizers
from .autoencoder import reconstruct
from .data import to_tensor
from .stage import Recipe, Stage

RECIPE = Recipe(steps=1200, batch=160, rate=1.5e-3, warmup=100, weight_decay=0.05, ema=0.995)
MEMBERS = 4
"""Scenes with captions per group; a batch consists of groups whose members are one change apart."""
GROUP_WEIGHT = 1.0
PLAIN_SHARE = 0.7
RECONSTRUCTED = 24
"""Number of images per batch that pass through the autoencoder, with noise on their latents."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

EMBED_DIM = 128
VISION = {"layers": [2, 2, 3, 1], "width": 16, "head_width": 64, "image_size": 64}
TEXT = {"context_length": tokenizers.MAX_LENGTH, "width": 128, "heads": 4, "layers": 3}


def model_config() -> dict[str, object]:
    """Return ``model_cfg`` for open_clip's configuration file."""
    text = {**TEXT, "vocab_size": len(tokenizers.build()), "hf_tokenizer_name": "local"}
    return {"embed_dim": EMBED_DIM, "vision_cfg": dict(VISION), "text_cfg": text}


def build() -> nn.ModuleDict:
    """Return the untrained CLIP, an ordinary open_clip model: small ResNet and text transformer."""
    text = CLIPTextCfg(vocab_size=len(tokenizers.build()), **TEXT)
    clip = CLIP(EMBED_DIM, CLIPVisionCfg(**VISION), text)
    return nn.ModuleDict({"clip": clip.to(memory_format=torch.channels_last)})


@dataclass(frozen=True)
class Group:
    """Scenes with captions; each differs from the first one in one thing."""

    kinds: tuple[str, ...]
    asked: tuple[Requirements, ...]
    scenes: tuple[Scene, ...]


def draw_group(rng: np.random.Generator, category: str, split: str, members: int) -> Group:
    """Draw a group of one category; all its captions belong to ``split``."""
    while True:
        first = sample_requirements(category, rng, split)
        options = {k: r for k, r in changes(first, rng).items() if split_of(r.text()) == split}
        if len(options) < members - 1:
            # Short prompts allow few kinds of change, so draw each kind again for another value.
            more = changes(first, rng)
            options |= {f"{k}+": r for k, r in more.items() if r not in options.values()}
            options = {k: r for k, r in options.items() if split_of(r.text()) == split}
        if len(options) < members - 1:
            continue
        kinds = [str(kind) for kind in rng.permutation(list(options))[: members - 1]]
        asked = [first, *(options[kind] for kind in kinds)]
        try:
            scenes = [sample_scene(requirements, rng, PLAIN_SHARE) for requirements in asked]
        except LayoutError:
            continue
        kinds = [kind.removesuffix("+") for kind in kinds]
        return Group(("same", *kinds), tuple(asked), tuple(scenes))


def truth(asked: list[Requirements], scenes: list[Scene]) -> Tensor:
    """Return which scenes (rows) meet which captions (columns): bool [scenes, captions]."""
    found = [[Detection(o.shape, o.color, o.size, o.texture, o.cx, o.cy, o.radius) for o in scene] for scene in scenes]
    shapes = [sorted(o.shape for o in scene) for scene in scenes]
    wanted = [sorted(p.shape for p in r.phrases for _ in range(p.count)) for r in asked]
    # Nearly all pairs already differ in their shapes; only the others need the full check.
    rows = [
        [shapes[i] == wanted[j] and score(asked[j], found[i]) == 1 for j in range(len(asked))]
        for i in range(len(scenes))
    ]
    return torch.tensor(rows)


def degrade(images: Tensor, rng: np.random.Generator, noise: torch.Generator) -> Tensor:
    """Blur, noise and dim some of the images, [N, 3, H, W] in [0, 1], to resemble unfinished samples."""
    images = images.clone()
    for start in range(0, len(images), 16):
        part = slice(start, start + 16)
        if rng.random() < 0.5:
            sigma = float(rng.uniform(0.3, 1.8))
            images[part] = gaussian_blur(images[part], [7, 7], [sigma, sigma])
        if rng.random() < 0.5:
            level = float(rng.uniform(0.01, 0.12))
            images[part] += level * torch.randn(images[part].shape, generator=noise)
        if rng.random() < 0.3:
            images[part] *= float(rng.uniform(0.8, 1.1))
    return images.clamp(0, 1)


def normalized(images: Tensor) -> Tensor:
    """Return images in [0, 1] normalized for the model."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    scaled = (images - mean[:, None, None]) / std[:, None, None]
    return scaled.contiguous(memory_format=torch.channels_last)


class ClipStage(Stage):
    """Contrast within the batch (other captions that are also true are masked) and within each group."""

    name = "clip"
    split = ()  # its temperature is a single number
    build = staticmethod(build)

    def __init__(self, recipe: Recipe, machine: Machine, vae: AutoencoderKL, folder: Path) -> None:
        """Check that the batch consists of whole groups."""
        if recipe.batch % MEMBERS:
            raise SteerError(f"--batch {recipe.batch}: expected a multiple of {MEMBERS}, the size of a group of scenes")
        super().__init__(recipe, machine, vae, folder)
        self.tokenizer = tokenizers.build()

    def tokens(self, prompts: list[str]) -> Tensor:
        """Return token ids [N, 32]."""
        return tokenizers.encode(self.tokenizer, prompts)

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the loss, its two terms, and the share of images whose caption is found in their group."""
        rng, count, device = draw.rng, self.recipe.batch // MEMBERS, self.machine.device
        names = rng.choice(list(TRAINING_MIXTURE), count, p=list(TRAINING_MIXTURE.values()))
        groups = [draw_group(rng, str(name), "train", MEMBERS) for name in names]
        asked = [r for group in groups for r in group.asked]
        scenes = [s for group in groups for s in group.scenes]
        # Damage affects runs of neighbors, so images are shuffled; else it would reveal the group.
        order = torch.from_numpy(rng.permutation(len(asked)))
        images = to_tensor(render_batch(scenes))[order]
        images[:RECONSTRUCTED] = reconstruct(self.vae, images[:RECONSTRUCTED], draw, self.machine.autocast())
        images = degrade(images, rng, draw.noise)[torch.argsort(order)]
        with self.machine.autocast():
            tokens = self.tokens([r.text() for r in asked])
            output = self.modules["clip"](normalized(images).to(device), tokens.to(device))
        image, text, scale = output[0].float().cpu(), output[1].float().cpu(), output[2].cpu().clamp(max=100)
        logits = scale * image @ text.T
        own = torch.arange(len(asked))
        foreign = truth(asked, scenes) & ~torch.eye(len(asked), dtype=torch.bool)
        masked = logits.masked_fill(foreign, -1e4)
        batch = (F.cross_entropy(masked, own) + F.cross_entropy(masked.T, own)) / 2
        inner = masked.view(count, MEMBERS, count, MEMBERS).diagonal(dim1=0, dim2=2)
        inner = inner.permute(2, 0, 1)  # [groups, images, captions]
        place = torch.arange(MEMBERS).repeat(count)
        group = (
            F.cross_entropy(inner.reshape(-1, MEMBERS), place)
            + F.cross_entropy(inner.transpose(1, 2).reshape(-1, MEMBERS), place)
        ) / 2
        right = (inner.reshape(-1, MEMBERS).argmax(1) == place).float().mean()
        return {"loss": batch + GROUP_WEIGHT * group, "batch": batch, "group": group, "group_right": right}

    def sheet(self, path: Path) -> dict[str, float]:
        """Measure retrieval on captions of the tuning split."""
        return retrieval(self.averaged()["clip"], self.tokens, self.recipe.seed, split="tune", groups=20)


@torch.no_grad()
def retrieval(
    clip: CLIP, tokens: Callable[[list[str]], Tensor], seed: int, *, split: str, groups: int
) -> dict[str, float]:
    """Return how often the right choice beats one that is a single change away, by kind of change.

    ``captions``: for an image, its caption against the changed one. ``images``: for a caption, its
    image against one of the changed scene. Chance is one half.
    """
    captions: dict[str, list[bool]] = defaultdict(list)
    images: dict[str, list[bool]] = defaultdict(list)
    for index, category in enumerate(TRAINING_MIXTURE):
        rng = Draw(seed, f"clip-{split}", index).rng
        for _ in range(groups):
            group = draw_group(rng, category, split, 2)
            picture = clip.encode_image(normalized(to_tensor(render_batch(group.scenes))), normalize=True)
            text = clip.encode_text(tokens([r.text() for r in group.asked]), normalize=True)
            score_matrix = picture @ text.T
            for name in (category, group.kinds[1], "all"):
                captions[name].append(bool(score_matrix[0, 0] > score_matrix[0, 1]))
                images[name].append(bool(score_matrix[0, 0] > score_matrix[1, 0]))
    shares = {f"captions_{k}": round(sum(v) / len(v), 3) for k, v in captions.items()}
    return shares | {f"images_{k}": round(sum(v) / len(v), 3) for k, v in images.items()}
