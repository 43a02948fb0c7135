"""CLIP score: cosine similarity of image and text, times 100 (Hessel et al. 2021, arXiv 2104.08718, unclipped).

Works with any open_clip model. Its preprocessing runs on tensors, so that gradients reach the image.
"""

import contextlib
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer.plugin import Weights, locate, manager, message_of, nearest
from steer_rewards import preprocess
from steer_rewards.embedding import PRECISION, Embedder, Precision, precision

CONFIG = "open_clip_config.json"
SAFE, PICKLED = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


class ClipOptions(Options):
    """Options of ``clip``."""

    model: str = Field(
        "shapes",
        description="CLIP to use if the reward names none: a known name (shapes), an open_clip NAME/PRETRAINED such as "
        "ViT-B-32/laion2b_s34b_b79k, or a folder in open_clip's layout.",
    )
    weights: str | None = Field(
        None, description="Local file with the weights of NAME/PRETRAINED, or the folder that holds it."
    )
    dtype: Precision = Field("auto", description=PRECISION)


@dataclass(frozen=True)
class Source:
    """A CLIP in open_clip's terms: model name, and tag of the weights (``None`` if the name includes them)."""

    name: str
    pretrained: str | None

    @property
    def label(self) -> str:
        """The name for messages."""
        return self.name if self.pretrained is None else f"{self.name}/{self.pretrained}"


class Clip(Reward):
    """100·cos(image, text); about 15–40, higher is better. Differentiable."""

    differentiable = True
    Options = ClipOptions
    options: ClipOptions

    def prepare(self) -> None:
        """Load the CLIP that ``argument`` or the option ``model`` names."""
        self.source = find(self.argument if self.argument is not None else self.options.model)
        dtype = self.dtype or precision(self.options.dtype, self.device)
        self.model, tokenizer = load(self.source, self.device, dtype, self.options.weights)
        self.embedder = embedder("clip", self.model, tokenizer, self.device, dtype)

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt | str]) -> Tensor:
        return 100 * self.embedder.cosine(samples, prompts)


def embedder(owner: str, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> Embedder:
    """Return an embedder of images and texts for an open_clip model."""
    size = model.visual.image_size
    side = size if isinstance(size, int) else int(size[0])
    return Embedder(
        owner=owner,
        preprocess=preprocess.of_open_clip(model.visual.preprocess_cfg, side),
        encode_images=model.encode_image,
        encode_tokens=model.encode_text,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
    )


def find(name: str) -> Source:
    """Resolve a CLIP's name.

    Args:
        name: a name that a plugin registered, ``NAME/PRETRAINED`` of open_clip, or a folder.

    Raises:
        SteerError: if it is none of these.
    """
    import open_clip

    aliases = manager().registry.clips
    folder = Path(aliases[name].load()()) if name in aliases else Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise SteerError(f"clip folder {name!r} has no {CONFIG}; expected a folder in open_clip's layout")
        return Source(f"local-dir:{folder}", None)
    model, slash, tag = name.partition("/")
    models = open_clip.list_models()
    if not slash or model not in models:
        known = [*aliases, *models]
        raise SteerError(
            f"unknown clip {name!r}{nearest(model, known)}; expected {', '.join(aliases) or 'a folder'}, an open_clip "
            "NAME/PRETRAINED such as ViT-B-32/laion2b_s34b_b79k, or a folder in open_clip's layout"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise SteerError(f"clip {model} has no weights {tag!r}{nearest(tag, tags)} (known: {', '.join(tags)})")
    return Source(model, tag)


def weights_of(source: Source) -> Weights | None:
    """Return a CLIP's weights on the hub; ``None`` for local ones and for the few that are elsewhere."""
    import open_clip

    if source.pretrained is None:
        return None
    place = open_clip.get_pretrained_cfg(source.name, source.pretrained).get("hf_hub", "")
    repo, _, file = place.rpartition("/")
    if not repo:
        return None
    return Weights(repo, file) if file else Weights(repo, SAFE, size=_size(source.name), otherwise=PICKLED)


def load(source: Source, device: torch.device, dtype: torch.dtype, weights: str | None = None) -> tuple[Any, Any]:
    """Return model and tokenizer, frozen and in inference mode; weights are read without unpickling code.

    Args:
        weights: a local file, or the folder that holds it, instead of the hub's.

    Raises:
        SteerError: if the weights cannot be fetched or do not fit.
    """
    import open_clip

    more: dict[str, Any] = {}
    pretrained = source.pretrained
    needed = weights_of(source)
    if needed is None and weights is not None:
        raise SteerError(
            f"clip.weights={weights} is for an open_clip NAME/PRETRAINED of the hub, not for {source.label}; remove "
            "the option, or name the CLIP"
        )
    if needed is not None:
        pretrained = str(locate(needed, owner=f"clip:{source.label}", given=weights))
        # a file has no tag, so pass on what open_clip knows about the tag
        config = open_clip.get_pretrained_cfg(source.name, source.pretrained)
        known = ("mean", "std", "interpolation", "resize_mode")
        more = {
            "force_preprocess_cfg": {key: config[key] for key in known if key in config},
            "force_quick_gelu": bool(config.get("quick_gelu", False)),
        }
    with explained(source.label):
        model = open_clip.create_model(
            source.name, pretrained=pretrained, require_pretrained=True, device="cpu", weights_only=True, **more
        )
        tokenizer = open_clip.get_tokenizer(source.name)
    # converted here, so that layer norms and buffers are converted too
    model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return model, tokenizer


@contextlib.contextmanager
def explained(label: str) -> Iterator[None]:
    """Turn open_clip's errors about missing or damaged files into one line."""
    from safetensors import SafetensorError

    broken = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)
    try:
        yield
    except broken as error:
        reason = message_of(error)
        raise SteerError(
            f"clip {label!r} cannot be loaded ({type(error).__name__}: {reason}); fetch it with a network, or "
            "give a folder in open_clip's layout as clip:FOLDER"
        ) from error


def _size(name: str) -> int | None:
    """Return the bytes of a CLIP's published weights in fp32, counted on the meta device; ``None`` if unknown."""
    import open_clip

    from steer_rewards.checkpoints import empty

    config = open_clip.get_model_config(name) or {}
    if {"embed_dim", "vision_cfg", "text_cfg"} != config.keys() - {"quick_gelu", "custom_text"}:
        return None
    if "timm_model_name" in config["vision_cfg"] or config.get("custom_text"):
        return None
    config.pop("custom_text", None)
    with empty():
        model = open_clip.CLIP(**config)
    return 4 * sum(int(tensor.numel()) for tensor in model.state_dict().values())
