"""The teacher: a model, its text encoders, autoencoder and noise schedule."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from steer import Prompt, SteerError
from steer.plugin import Conditioning, Plugins, load_model, scheduler_kind
from steer_dmd2.train.schedule import Schedule

KEPT_BYTES = 8 << 30
"""Limit for text encodings kept in the machine's memory; those of SDXL take 0.3 MB each in bf16."""
ENCODED_PIXELS = 1024 * 1024
"""Pixels of the images that are encoded together, unless one image has more."""
DENOISED_PIXELS = 4 * ENCODED_PIXELS
"""Pixels of the samples that are drawn together, unless one has more."""


FAMILIES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline")
"""Pipeline classes of models that can be distilled."""

LORA_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
    "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "ff_context.net.0.proj", "ff_context.net.2",
)  # fmt: skip
"""Layers that a LoRA is trained on, as far as a denoiser has them: those of UNets as published, and of transformers."""


class Teacher:
    """A frozen teacher, and named copies of its denoiser that share its other parts.

    Attributes:
        guidance_scale: that models take as an input which do so (Flux-dev).
        size: width and height of images in pixels.
        shape: of one image's latents.
    """

    def __init__(
        self,
        name: str,
        plugins: Plugins,
        *,
        device: str | None,
        dtype: str = "fp32",
        width: int | None = None,
        height: int | None = None,
    ) -> None:
        """Load the model.

        Args:
            dtype: of the weights that are not trained.

        Raises:
            SteerError: for a family that cannot be distilled.
        """
        self.model = load_model(name, plugins, device=device, dtype=dtype)
        self.backbone: Any = check_family(self.model.backbone, name)
        self.device: torch.device = self.backbone.device
        self.guidance_scale = 0.0
        self.schedule = Schedule.of(self.backbone.scheduler, self.device)
        self.shape: tuple[int, ...] = self.backbone.latent_shape(width, height)
        factor = self.backbone.pipe.vae_scale_factor
        self.size = (self.shape[2] * factor, self.shape[1] * factor)
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._kept_bytes, self._full = 0, False
        self.backbone.enter(encoding=True)
        _, uncond = self.backbone.encode_one(Prompt(""), "")
        self._uncond = {name: value.clone() for name, value in uncond.items()}  # alone, without the other half

    def copy(self, name: str, lora: int = 0) -> Any:
        """Return a trainable copy of the denoiser on the device, registered as ``name``.

        On a GPU it computes its activations again on the way back, block by block, which saves most of their memory.

        Args:
            lora: rank of a LoRA that is trained instead of all weights; 0 trains all of them.
        """
        self.backbone.enter(encoding=False)
        unet = copy.deepcopy(self.backbone.denoisers["base"]).requires_grad_(True)
        if lora:
            add_lora(unet, lora)
        for parameter in unet.parameters():
            if parameter.requires_grad:  # updates are too small for half precision
                parameter.data = parameter.data.float()
        if self.device.type != "cpu":
            unet.enable_gradient_checkpointing()
        self.backbone.denoisers[name] = unet
        return unet

    def chunk(self, most: int) -> int:
        """Return how many samples to draw together, ``most`` at most."""
        width, height = self.size
        return int(max(1, min(most, DENOISED_PIXELS // (width * height))))

    def encode_first(self, captions: Sequence[str]) -> None:
        """Encode all captions on a GPU, which the encoders then leave, if the encodings can be kept."""
        if self.device.type == "cpu":
            return
        for text in dict.fromkeys(captions):
            self._encode_one(text)
            if self._full:
                return
        self.backbone.crowd()

    @torch.no_grad()
    def encode(self, captions: Sequence[str], guidance_scale: float = 1.0) -> Conditioning:
        """Encode B captions; with guidance if ``guidance_scale`` is above 1."""
        rows = [self._encode_one(text) for text in captions]
        cond = {name: torch.cat([row[name] for row in rows]).to(self.device) for name in rows[0]}
        scale = self.backbone.scale_input(1.0, self.guidance_scale)
        if scale is not None:
            cond["scale"] = torch.full((len(rows),), float(scale), device=self.device)
        uncond = None
        if guidance_scale > 1 and self.backbone.cfg_setting == "guidance_scale":
            uncond = {name: value.expand(len(rows), *value.shape[1:]) for name, value in self._uncond.items()}
        return Conditioning(cond, uncond, guidance_scale)

    def predict(self, name: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a denoiser's output ``[B, …]`` at timesteps ``[B]``."""
        if conditioning.guided:
            timestep = torch.cat([timestep, timestep])
        self.backbone.enter(encoding=False)
        with plain_attention(self.device):
            out: Tensor = self.backbone.predict(name, x, timestep, conditioning)
        return out

    def x0(self, name: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return a denoiser's estimate of x0."""
        return self.schedule.x0(x, self.predict(name, x, timestep, conditioning), timestep)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation ``[B, C, h, w]`` of the latents of images in [0, 1], in the denoiser's
        scale."""
        self.backbone.enter(encoding=False)
        vae = self.backbone.pipe.vae
        means, stds = [], []
        for part in images.split(max(1, ENCODED_PIXELS // images[0, 0].numel())):
            posterior = vae.encode(part.to(self.device, vae.dtype) * 2 - 1).latent_dist
            shift = getattr(vae.config, "shift_factor", None) or 0.0
            means.append((posterior.mean.float() - shift) * vae.config.scaling_factor)
            stds.append(posterior.std.float() * vae.config.scaling_factor)
        return torch.cat(means), torch.cat(stds)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images ``[B, 3, H, W]`` in [0, 1] of latents; gradients reach those that have one."""
        self.backbone.enter(encoding=False)
        most = self.backbone.decoded_at_once(latents)
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self.backbone.decode(part.float()).float() for part in latents.split(most)])

    def _encode_one(self, text: str) -> dict[str, Tensor]:
        if text not in self._kept:
            self.backbone.enter(encoding=True)
            encoded, _ = self.backbone.encode_one(Prompt(text), None)
            encoded = {name: value.cpu() for name, value in encoded.items()}
            size = sum(value.nbytes for value in encoded.values())
            self._full |= self._kept_bytes + size > KEPT_BYTES
            if self._full:
                return encoded
            self._kept_bytes += size
            self._kept[text] = encoded
        return self._kept[text]


def check_family(backbone: Any, name: str) -> Any:
    """Return a backbone if it can be distilled.

    Raises:
        SteerError: naming what is supported, if it cannot.
    """
    family = type(backbone.pipe).__name__
    if family not in FAMILIES:
        raise SteerError(f"teacher {name!r} is a {family}; train dmd2 takes {', '.join(FAMILIES)}")
    if scheduler_kind(backbone.scheduler) == "flow":
        return backbone
    kind = backbone.scheduler.config.get("prediction_type", "epsilon")
    if not hasattr(backbone.scheduler, "alphas_cumprod") or kind not in ("epsilon", "v_prediction"):
        raise SteerError(f"teacher {name!r} predicts {kind!r}; train dmd2 takes epsilon, v_prediction and flows")
    if backbone.denoisers["base"].config.get("time_cond_proj_dim") is not None:
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


def add_lora(denoiser: Any, rank: int) -> None:
    """Freeze a denoiser and give it a trainable LoRA on attention, projections and convolutions, as published.

    Raises:
        SteerError: without ``peft``.
    """
    try:
        from peft import LoraConfig
    except ImportError:
        raise SteerError("--lora needs peft: pip install 'steer-diffusion[lora]'") from None
    names = [name for name, _ in denoiser.named_modules()]
    targets = [target for target in LORA_TARGETS if any(f".{name}".endswith(f".{target}") for name in names)]
    denoiser.requires_grad_(False)
    denoiser.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name="dmd2")
