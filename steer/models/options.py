"""What can be done to a model when it is loaded: LoRAs, memory savings, compilation, a preview decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer.errors import SteerError, message_of, unknown
from steer.models import embeddings, loras
from steer.models.attention import set_attention
from steer.models.downloads import weights
from steer.models.downloads.checkpoints import sha256_of
from steer.models.downloads.source import Source
from steer.models.embeddings import Embedding
from steer.models.loras import Lora
from steer.models.parts import Part
from steer.models.quantize import PACKAGES, check, quantize, quantized
from steer.registry.declarations import Repository
from steer.settings.run_settings import renewed

OFFLOADS = ("none", "model", "group", "sequential")
UNMOVABLE = "offload=sequential cannot move quantized layers; use --offload model"
VAE_SAVINGS = ("slicing", "tiling")
LATER = ("variant", "revision", "base", "vae", "embeddings", "quantize", "pipeline", "parts", "channels_last")
"""Options that recipes hold only if they are set."""
PREVIEWS = {
    "taesd": "madebyollin/taesd",
    "taesdxl": "madebyollin/taesdxl",
    "taesd3": "madebyollin/taesd3",
    "taef1": "madebyollin/taef1",
}
"""Short names of preview decoders: their hub ids."""
OWN = "own"
"""The preview decoder in the folder ``preview`` of the model's own folder."""


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded, beyond its weights. Part of the recipe.

    Attributes:
        loras: (folder, ``.safetensors`` file or hub id; weight; weight in the text encoders if it is another), in
            order.
        offload: ``"model"`` moves one part at a time to the GPU, ``"group"`` the next layers while
            others compute, ``"sequential"`` one layer; CUDA only.
        compile: compile the denoiser with ``torch.compile``; pays from some hundred steps of one shape on.
        channels_last: lay the weights of convolutions out channels last: faster, other last bits.
        attention: diffusers' name of an attention backend, such as ``"native"``, ``"flash"`` or ``"xformers"``.
        vae: another autoencoder: a hub id, a folder, or a file.
        quantize: weights of the denoiser and of large text encoders: ``"nf4"``, ``"int8"`` or ``"fp8"``.
        embeddings: files of textual inversion, each with its word.
        base: the model that a model in one file takes its configurations from, and the parts that it lacks.
        vae_memory: of ``"slicing"`` (one image at a time) and ``"tiling"`` (tiles; blends seams), to decode in less
            memory.
        variant: of the weights, such as ``"fp16"``; by default that of the precision if it has to be fetched, else what
            is there.
        revision: branch, tag or commit of a model of the hub.
        pipeline: class of diffusers to load the model into and to call as a whole, even if it has a family, such as
            ``"StableDiffusionInpaintPipeline"``.
        parts: parts that the model lacks or that replace its own, such as a ControlNet: name, and folder or hub id.
        preview: small decoder for rewards before the last step: a short name, hub id or folder of an
            ``AutoencoderTiny``, or ``"own"``, the one in the model's folder.
    """

    loras: tuple[Lora, ...] = ()
    offload: str = "none"
    compile: bool = False
    attention: str | None = None
    vae_memory: tuple[str, ...] = ()
    preview: str | None = None
    variant: str | None = None
    revision: str | None = None
    base: str | None = None
    vae: str | None = None
    embeddings: tuple[Embedding, ...] = ()
    quantize: str | None = None
    pipeline: str | None = None
    parts: tuple[Part, ...] = ()
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise unknown("offload", self.offload, OFFLOADS)
        if self.quantize is not None and self.quantize not in PACKAGES:
            raise unknown("quantize", self.quantize, PACKAGES)
        if self.quantize is not None and self.offload == "sequential":
            raise SteerError(UNMOVABLE)
        for saving in self.vae_memory:
            if saving not in VAE_SAVINGS:
                raise unknown("vae-memory", saving, VAE_SAVINGS)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for the recipe."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelOptions:
        """Return the options that :meth:`as_dict` gave, for a replay."""
        data = renewed(data)
        found = tuple((str(path), *map(float, weights)) for path, *weights in data.get("loras", ()))
        words = tuple((str(file), str(word)) for file, word in data.get("embeddings", ()))
        lists = {"loras": found, "embeddings": words, "parts": tuple(map(tuple, data.get("parts", ())))}
        return cls(**{**data, **lists, "vae_memory": tuple(data.get("vae_memory", ()))})


def files_of(model: str, options: ModelOptions) -> dict[str, str]:
    """Return the SHA-256 of each file of weights on this machine that a model's name and its options name, by name."""
    found = {}
    for name in (model, options.vae, *(path for path, *_ in (*options.loras, *options.embeddings))):
        path = Source(name).path if name else None
        if path is not None and path.is_file():
            found[str(name)] = sha256_of(path)
    return found


def apply(pipe: Any, options: ModelOptions, device: torch.device, *, move: bool = True) -> None:
    """Apply all options but the preview to a pipeline and put it where it belongs, unless it is not to ``move``.

    Raises:
        SteerError: for an option that the pipeline or the machine cannot follow.
    """
    loras.add(pipe, options.loras, fuse=not quantized(denoiser_of(pipe)))
    embeddings.add(pipe, options.embeddings)
    if options.quantize is not None:  # what LoRAs have added too
        check(options.quantize)
        quantize(pipe, options.quantize, device if options.offload == "none" and move else None)
    if options.offload == "sequential" and quantized(denoiser_of(pipe)):
        raise SteerError(UNMOVABLE)
    if options.channels_last:
        for part in modules_of(pipe).values():  # before layers are copied for offloading
            lay_channels_last(part)
    if options.offload == "none":
        if move and not any(map(offloaded, pipe.components.values())):  # by its owner, who said where it goes
            pipe.to(device)
    elif device.type != "cuda":
        raise SteerError(f"offload={options.offload} moves parts to a CUDA device and back; the device is {device}")
    elif options.offload == "group":
        group_offload(pipe, device, streams=True)
    elif options.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)
    vae = getattr(pipe, "vae", None)
    for saving in options.vae_memory:
        enable = getattr(vae, f"enable_{saving}", None)
        if enable is None:
            raise SteerError(f"the autoencoder of {type(pipe).__name__} has no {saving}")
        enable()
    prepare(denoiser_of(pipe), options, device)


def group_offload(pipe: Any, device: torch.device, *, streams: bool) -> None:
    """Have diffusers move layers to the device ahead of their use and back; an autoencoder that overflows in fp16 stays
    there, because one under group offload cannot change its precision."""
    vae = getattr(pipe, "vae", None)
    stays = vae is not None and vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    pipe.enable_group_offload(
        device, offload_type="leaf_level", use_stream=streams, exclude_modules=["vae"] if stays else None
    )
    if vae is not None and stays:
        vae.to(device)


def prepare(denoiser: Any, options: ModelOptions, device: torch.device) -> None:
    """Set what the options say of denoisers, the model's own and those that methods bring, but for offloading.

    Raises:
        SteerError: for an attention that it does not take.
    """
    if options.channels_last:
        lay_channels_last(denoiser)
    if options.attention is not None:
        set_attention(denoiser, options.attention, device)
    if options.compile:
        denoiser.compile()


def lay_channels_last(module: torch.nn.Module) -> None:
    """Lay out the weights of two-dimensional convolutions channels last; activations follow them."""
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


def modules_of(pipe: Any) -> dict[str, torch.nn.Module]:
    """Return a pipeline's parts that have weights, by name."""
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def offloaded(part: Any) -> bool:
    """Whether hooks move a part of a pipeline to the device and back as it is called."""
    return hasattr(part, "_hf_hook") or group_offloaded(part)


def group_offloaded(part: Any) -> bool:
    """Whether diffusers moves a part's layers in groups."""
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    return isinstance(part, torch.nn.Module) and _is_group_offload_enabled(part)


def denoiser_of(pipe: Any) -> Any:
    """Return a pipeline's denoiser: its UNet, its transformer, or the model of a pipeline that writes text."""
    names = ("unet", "transformer", "model", "decoder", "prior", "dit")
    return next(part for name in names if (part := getattr(pipe, name, None)) is not None)


class Preview:
    """A small decoder (``AutoencoderTiny``) for rewards before the last step; 0.14 TFLOP for 2.5 at 512 px."""

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype, folder: Path | None = None) -> None:
        """Load it.

        Args:
            name: a short name of :data:`PREVIEWS`, :data:`OWN`, a hub id, or a folder.
            folder: the model's own.

        Raises:
            SteerError: if it cannot be loaded.
        """
        from diffusers import AutoencoderTiny

        if name == OWN and not (folder is not None and (folder / "preview").is_dir()):
            reason = "of a pipeline in memory is not known" if folder is None else "is missing: no folder 'preview'"
            raise SteerError(f"the model's own preview decoder {reason}; give a hub id or a folder")
        source = Source(str(folder / "preview") if folder is not None and name == OWN else PREVIEWS.get(name, name))
        if source.folder is None and not source.like_an_id():
            raise unknown("preview decoder", name, (*PREVIEWS, OWN))
        place = source.path or weights.locate(Repository(source.name, option=""), owner=name)
        try:
            self.model = AutoencoderTiny.from_pretrained(str(place), torch_dtype=dtype).to(device).eval()
        except (OSError, ValueError) as error:
            raise SteerError(
                f"preview decoder {name!r} ({source.name}) cannot be loaded: {message_of(error)}; give a folder that "
                "holds an AutoencoderTiny"
            ) from None
        self.model.requires_grad_(False)

    def check(self, channels: int) -> None:
        """Raise unless the decoder takes latents with this number of channels."""
        own = self.model.config.latent_channels
        if own != channels:
            raise SteerError(f"the preview decoder takes latents of {own} channels, the model's have {channels}")

    def __call__(self, latents: Tensor) -> Tensor:
        """Decode the denoiser's latents ``[B, C, H, W]`` to images ``[B, 3, H, W]`` in [0, 1]."""
        image: Tensor = self.model.decode(latents.to(self.model.dtype), return_dict=False)[0]
        return (image.float() / 2 + 0.5).clamp(0, 1)
