"""The velocity network and its files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from steer import SteerError
from steer.plugin import Source, json_text, message_of, mismatch, read_object
from steer.training import replaced_folder, write_whole

CONFIG, WEIGHTS, VAE = "symmflow.json", "model.safetensors", "vae"
EMBEDDED = Path(__file__).parent / "weights"
KINDS = ("masks", "classes")


@dataclass(frozen=True)
class SymmFlowConfig:
    """The configuration of a SymmFlow model.

    Attributes:
        kind: kind of its semantics, ``"masks"`` or ``"classes"``.
        labels: names of the classes, or of a mask's regions, in order.
        colors: for ``"masks"``, the color of each label, three numbers in 0..255.
        size: (height, width) of its images in pixels.
        beta: width of the dequantization, see :mod:`steer_symmflow.semantics`.
        space: ``"pixel"``, or ``"latent"``: both halves are latents of the autoencoder in ``vae/``.
        scaling_factor: for ``"latent"``, the factor of the latents.
        patch: side of the pixel blocks that become channels before the network.
        time_scale: t in [0, 1] is multiplied by it for the network's embedding.
        shift: of the steps in which images are drawn, see :func:`steer_symmflow.flow.grid`; after a training, that of
            its times.
        network: ``"UNet2DModel"``, or ``"UNet2DConditionModel"`` with a fixed context in its weights.
        unet: the network's own configuration.
        context: for ``"UNet2DConditionModel"``, tokens and width of the fixed context.
    """

    kind: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    colors: tuple[tuple[int, int, int], ...] = ()
    beta: float = 6.0
    space: str = "pixel"
    scaling_factor: float = 0.18215
    patch: int = 1
    time_scale: float = 1000.0
    shift: float = 1.0
    network: str = "UNet2DModel"
    unet: dict[str, Any] = field(default_factory=dict)
    context: tuple[int, int] = (77, 1024)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SteerError(f"symmflow: kind is {self.kind!r}, expected {' or '.join(KINDS)}")
        if len(self.labels) < 2:
            raise SteerError(f"symmflow: {len(self.labels)} label, expected at least 2")
        if self.kind == "masks" and len(self.colors) != len(self.labels):
            raise SteerError(f"symmflow: {len(self.colors)} colors for {len(self.labels)} labels, expected one each")
        if not all(isinstance(label, str) for label in self.labels) or len(set(self.labels)) < len(self.labels):
            raise SteerError(f"symmflow: labels {list(self.labels)}, expected distinct texts")
        if not all(len(color) == 3 and all(type(v) is int and 0 <= v <= 255 for v in color) for color in self.colors):
            raise SteerError(f"symmflow: colors {list(self.colors)}, expected three whole numbers in 0..255 each")
        if len(self.size) != 2 or not all(type(side) is int and side > 0 for side in self.size):
            raise SteerError(f"symmflow: size {list(self.size)}, expected height and width in pixels")
        if type(self.patch) is not int or self.patch < 1:
            raise SteerError(f"symmflow: patch {self.patch!r}, expected a whole number of at least 1")
        for name in ("beta", "scaling_factor", "time_scale", "shift"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise SteerError(f"symmflow: {name} is {value!r}, expected a number above 0")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SymmFlowConfig:
        """Return the configuration from plain data."""
        return cls(
            **{
                **data,
                "labels": tuple(data["labels"]),
                "size": tuple(data["size"]),
                "context": tuple(data.get("context", (77, 1024))),
                "colors": tuple(tuple(color) for color in data.get("colors", ())),
            }
        )


class SymmFlowModel(nn.Module):
    """dz/dt of the joint state: ``[N, 2·C, H, W]`` and t to the same shape.

    In pixel space C is 3 and H, W are the image's; in latent space they are the autoencoder's.
    """

    def __init__(self, config: SymmFlowConfig) -> None:
        """Build the model with random weights."""
        super().__init__()
        self.config = config
        if config.network == "UNet2DModel":
            self.unet: Any = UNet2DModel(**config.unet)
        elif config.network == "UNet2DConditionModel":
            self.unet = UNet2DConditionModel(**config.unet)
            self.context = nn.Parameter(torch.zeros(1, *config.context), requires_grad=False)
        else:
            raise SteerError(f"symmflow: network {config.network!r}, expected UNet2DModel or UNet2DConditionModel")
        self.vae: AutoencoderKL | None = None

    @property
    def channels(self) -> int:
        """C: channels of one half."""
        joint: int = self.unet.config.in_channels // self.config.patch**2
        return joint // 2

    @property
    def half_shape(self) -> tuple[int, int, int]:
        """Shape of one half of the state: C, height and width."""
        factor = 1 if self.vae is None else 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.channels, self.config.size[0] // factor, self.config.size[1] // factor

    def check_size(self) -> None:
        """Check that the image size can be halved as often as the network and the autoencoder do.

        Raises:
            SteerError: naming the size, and the number of which its sides must be multiples.
        """
        multiple = self.config.patch * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if self.vae is not None:
            multiple *= 2 ** (len(self.vae.config.block_out_channels) - 1)
        height, width = self.config.size
        if height % multiple or width % multiple:
            raise SteerError(f"size {width}x{height} does not fit this network: expected multiples of {multiple}")

    def forward(self, z: Tensor, t: Tensor | float) -> Tensor:
        """Return the velocity at times ``t``, a number or ``[N]``, always in float32.

        So the solver can add small steps to the state without rounding them to the weights' precision.
        """
        times = torch.as_tensor(t, device=z.device, dtype=torch.float32).expand(len(z)) * self.config.time_scale
        patch = self.config.patch
        if patch > 1:
            z = functional.pixel_unshuffle(z, patch)
        z = z.to(self.unet.dtype, memory_format=torch.channels_last)
        if self.config.network == "UNet2DModel":
            out = self.unet(z, times, return_dict=False)[0]
        else:
            context = self.context.to(z.dtype).expand(len(z), -1, -1)
            out = self.unet(z, times, encoder_hidden_states=context, return_dict=False)[0]
        out = out.float()
        return functional.pixel_shuffle(out, patch) if patch > 1 else out

    def encode(self, planes: Tensor) -> Tensor:
        """Turn ``[N, 3, H, W]`` in [−1, 1] into one half of the state."""
        if self.vae is None:
            return planes
        latents: Tensor = self.vae.encode(planes.to(self.vae.dtype)).latent_dist.mean
        return latents.float() * self.config.scaling_factor

    def decode(self, half: Tensor) -> Tensor:
        """Turn one half of the state back into ``[N, 3, H, W]`` in about [−1, 1]."""
        if self.vae is None:
            return half
        image: Tensor = self.vae.decode(half.to(self.vae.dtype) / self.config.scaling_factor, return_dict=False)[0]
        return image.float()

    def save(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write configuration and weights to a folder."""
        state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in self.state_dict().items() if "vae." not in k}
        config = json_text(asdict(self.config), indent=1) + "\n"
        if self.vae is not None:
            with replaced_folder(folder / VAE) as place:
                self.vae.save_pretrained(place)
        write_whole(folder / WEIGHTS, lambda path: save_file(state, path))
        write_whole(folder / CONFIG, lambda path: path.write_text(config, encoding="utf-8"))


def begun_from(other: SymmFlowModel, config: SymmFlowConfig) -> SymmFlowModel:
    """Return a model for other data with the network and weights of ``other``; both share the autoencoder.

    Args:
        config: kind, labels, colors, size and β of the new model.

    Raises:
        SteerError: for a size that does not fit the network.
    """
    own = other.config
    model = SymmFlowModel(
        replace(
            config, space=own.space, scaling_factor=own.scaling_factor, patch=own.patch, time_scale=own.time_scale,
            network=own.network, unet=own.unet, context=own.context,
        )
    )  # fmt: skip
    model.vae = other.vae
    model.check_size()
    model.load_state_dict(other.state_dict())
    return model


def embedded() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def find(name: str) -> Path:
    """Return the folder of a model, given the name of a shipped model, or a trained or converted folder.

    Args:
        name: with or without the prefix ``symmflow:``.

    Raises:
        SteerError: if there is no such model.
    """
    short = name.removeprefix("symmflow:")
    if short in embedded():
        return EMBEDDED / short
    folder = Source(short).folder
    if folder is None:
        raise SteerError(
            f"model 'symmflow:{short}': there is no such folder, and no shipped model of that name "
            f"({', '.join(embedded())}); steer train symmflow makes one"
        )
    return folder


def load(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> SymmFlowModel:
    """Load a model that :meth:`SymmFlowModel.save` wrote, in inference mode.

    Raises:
        SteerError: if files are missing, damaged or do not match.
    """
    try:
        config = SymmFlowConfig.from_dict(read_object(folder / CONFIG, "symmflow model"))
        model = SymmFlowModel(config)
        state = load_file(folder / WEIGHTS)
    except SteerError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = message_of(error)
        raise SteerError(f"symmflow model {folder} cannot be read ({type(error).__name__}: {reason})") from None
    load_state(model, state, str(folder / WEIGHTS))
    if config.space == "latent":
        if not (folder / VAE).is_dir():
            raise SteerError(
                f"symmflow model {folder} needs an autoencoder and has no {VAE}/; copy its autoencoder there"
            )
        try:
            model.vae = AutoencoderKL.from_pretrained(folder / VAE)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = message_of(error)
            raise SteerError(f"symmflow model {folder}: {VAE}/ cannot be read ({reason}); copy it again") from None
    model.check_size()
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def load_state(model: SymmFlowModel, state: dict[str, Tensor], what: str) -> None:
    """Load weights completely or not at all.

    Raises:
        SteerError: naming tensors that are missing, left over or of another shape.
    """
    own = {name: value.shape for name, value in model.state_dict().items() if "vae." not in name}
    problem = mismatch(own, {name: value.shape for name, value in state.items()})
    if problem:
        raise SteerError(f"{what} does not fit this symmflow model: {problem}")
    model.load_state_dict(state, strict=False)
