"""The teacher: a model of a UNet family, its text encoder, autoencoder and noise schedule."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from steer import Prompt, SteerError
from steer.plugin import Conditioning, Plugins, StableDiffusion, load_model
from steer_dmd2.train.schedule import Schedule

KEPT_BYTES = 1 << 30
"""Limit for text encodings kept in memory."""


class Teacher:
    """A frozen teacher, and named copies of its UNet that share its other parts.

    Attributes:
        size: width and height of images in pixels.
        shape: of one image's latents.
    """

    def __init__(
        self, name: str, plugins: Plugins, *, device: str | None, width: int | None = None, height: int | None = None
    ) -> None:
        """Load the model.

        Raises:
            SteerError: for a family whose denoiser is not a UNet with a schedule of alphas.
        """
        self.model = load_model(name, plugins, device=device, dtype="fp32")
        self.backbone: Any = check_family(self.model.backbone, name)
        self.device: torch.device = self.backbone.device
        self.schedule = Schedule.of(self.backbone.scheduler, self.device)
        self.shape: tuple[int, ...] = self.backbone.latent_shape(width, height)
        factor = self.backbone.pipe.vae_scale_factor
        self.size = (self.shape[2] * factor, self.shape[1] * factor)
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._kept_bytes = 0
        self.backbone.enter(encoding=True)
        _, self._uncond = self.backbone.encode_one(Prompt(""), "")

    def copy(self, name: str) -> Any:
        """Return a trainable copy of the UNet on the device, registered as ``name``."""
        self.backbone.enter(encoding=False)
        unet = copy.deepcopy(self.backbone.denoisers["base"]).requires_grad_(True)
        self.backbone.denoisers[name] = unet
        return unet

    @torch.no_grad()
    def encode(self, captions: Sequence[str], guidance_scale: float = 1.0) -> Conditioning:
        """Encode B captions; with guidance if ``guidance_scale`` is above 1."""
        rows = [self._encode_one(text) for text in captions]
        cond = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        uncond = None
        if guidance_scale > 1:
            uncond = {name: value.expand(len(rows), *value.shape[1:]) for name, value in self._uncond.items()}
        return Conditioning(cond, uncond, guidance_scale)

    def predict(self, name: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a UNet's output ``[B, …]`` at timesteps ``[B]``."""
        if conditioning.guided:
            timestep = torch.cat([timestep, timestep])
        self.backbone.enter(encoding=False)
        with plain_attention(self.device):
            out: Tensor = self.backbone.predict(name, x, timestep, conditioning)
        return out

    def x0(self, name: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a UNet's estimate of x0."""
        return self.schedule.x0(x, self.predict(name, x, timestep, conditioning), timestep)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation ``[B, C, h, w]`` of the latents of images in [0, 1], in UNet scale."""
        self.backbone.enter(encoding=False)
        vae = self.backbone.pipe.vae
        posterior = vae.encode(images.to(self.device, vae.dtype) * 2 - 1).latent_dist
        factor = vae.config.scaling_factor
        return posterior.mean.float() * factor, posterior.std.float() * factor

    def _encode_one(self, text: str) -> dict[str, Tensor]:
        if text not in self._kept:
            self.backbone.enter(encoding=True)
            encoded, _ = self.backbone.encode_one(Prompt(text), None)
            size = sum(value.numel() * value.element_size() for value in encoded.values())
            if self._kept_bytes + size > KEPT_BYTES:
                return dict(encoded)
            self._kept_bytes += size
            self._kept[text] = encoded
        return self._kept[text]


def check_family(backbone: Any, name: str) -> Any:
    """Return a backbone if it can be distilled.

    Raises:
        SteerError: naming what is supported, if it cannot.
    """
    family = type(backbone.pipe).__name__
    kind = backbone.scheduler.config.get("prediction_type", "epsilon")
    if not isinstance(backbone, StableDiffusion) or not hasattr(backbone.scheduler, "alphas_cumprod"):
        raise SteerError(
            f"teacher {name!r} is a {family}; train dmd2 takes UNet families: StableDiffusionPipeline, "
            "StableDiffusionXLPipeline"
        )
    if kind not in ("epsilon", "v_prediction"):
        raise SteerError(f"teacher {name!r} predicts {kind!r}; train dmd2 takes epsilon and v_prediction")
    if backbone.pipe.unet.config.time_cond_proj_dim is not None:
        raise SteerError(f"teacher {name!r} is already distilled (it takes the guidance scale as an input)")
    return backbone


@contextmanager
def plain_attention(device: torch.device) -> Iterator[None]:
    """Use plain attention on a CPU; fused attention is much slower there for small latents."""
    if device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def add_lora(unet: Any, rank: int) -> None:
    """Freeze a UNet and give it a trainable LoRA on attention, projections and convolutions, as published.

    Raises:
        SteerError: without ``peft``.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise SteerError("--lora needs peft: pip install 'steer-diffusion[lora]'") from None
    attention = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
    blocks = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=[*attention, *blocks]), adapter_name="dmd2")
