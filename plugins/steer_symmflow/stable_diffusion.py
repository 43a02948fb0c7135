"""SymmFlow on Stable Diffusion's latents: a UNet with twice the channels, its autoencoder, the empty prompt.

The published SD variant (hub repository ``ocaetas/SymmFlow``) is a state dict of ``unet.*`` for the UNet of SD 2.1 with
8 channels in and out; it takes t in [0, 1] without scaling.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import Source, hub, load_model, manager, read_object, read_tensors
from steer_symmflow.model import SymmFlowConfig, SymmFlowModel, load_state

PREFIX = "unet."
NESTED = ("state_dict", "model", "ema")
"""Keys under which trainers put a state dict."""


def on_base(base: str, config: SymmFlowConfig) -> tuple[SymmFlowModel, Any]:
    """Return a model on a Stable Diffusion's latents, with random UNet weights, and the base's UNet.

    Args:
        base: a folder in diffusers format or a hub id; gives the UNet's layout, the autoencoder and the empty prompt.
        config: the other settings: kind, labels, colors, size, β and ``time_scale``.

    Raises:
        SteerError: if the base cannot be loaded or is not a Stable Diffusion, or the size does not fit it.
    """
    pipe = load_model(base, manager(), device="cpu", dtype="fp32").backbone.pipe
    if type(pipe).__name__ != "StableDiffusionPipeline":
        raise SteerError(f"base {base!r} is a {type(pipe).__name__}, expected a Stable Diffusion 1.x or 2.x")
    return _built(base, pipe, dict(pipe.unet.config), pipe.vae, config), pipe.unet


def _built(base: str, pipe: Any, layout: dict[str, Any], vae: Any, config: SymmFlowConfig) -> SymmFlowModel:
    """Return a model with a UNet of a base's layout, twice its channels in and out."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    deepest = factor * 2 ** (len(layout["block_out_channels"]) - 1)
    for side in config.size:
        if side % deepest:
            raise SteerError(
                f"size {config.size[1]}x{config.size[0]} does not fit base {base!r}: expected multiples of {deepest}"
            )
    unet = {name: value for name, value in layout.items() if not name.startswith("_")}
    unet |= {"in_channels": 2 * unet["in_channels"], "out_channels": 2 * unet["out_channels"],
             "sample_size": config.size[0] // factor}  # fmt: skip
    with torch.no_grad():
        context = pipe.encode_prompt("", torch.device("cpu"), 1, False)[0]
    model = SymmFlowModel(
        replace(
            config, space="latent", scaling_factor=vae.config.scaling_factor, patch=1, unet=unet,
            network="UNet2DConditionModel", context=tuple(context.shape[1:]),
        )
    )  # fmt: skip
    model.context.data.copy_(context)
    model.vae = vae.eval().requires_grad_(False)
    return model


def doubled(model: SymmFlowModel, unet: nn.Module) -> SymmFlowModel:
    """Initialize a model from a UNet with half its channels, and return it.

    The first convolution applies the UNet's filters to the mean of both halves; the last one writes the UNet's output
    into both. So activations keep their size. Training then separates the halves.
    """
    state = dict(unet.state_dict())
    state["conv_in.weight"] = torch.cat([state["conv_in.weight"]] * 2, dim=1) / 2
    for name in ("conv_out.weight", "conv_out.bias"):
        state[name] = torch.cat([state[name]] * 2)
    model.unet.load_state_dict(state)
    return model


def official(file: Path, base: str, config: SymmFlowConfig, vae: str | None = None) -> SymmFlowModel:
    """Load a published checkpoint; other parts come from the Stable Diffusion that it was made from.

    Of that only what is needed is fetched and read: the UNet's layout, the text encoder and the tokenizer.

    Args:
        file: the checkpoint.
        base: the Stable Diffusion: a folder in diffusers format or a hub id.
        config: see :func:`on_base`.
        vae: the autoencoder: a folder or a hub id; by default the base's.

    Raises:
        SteerError: for a file that cannot be read or has another layout, or parts that cannot be had.
    """
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    state = read_state(file)
    needed = (*TEXT_PARTS, *(("vae",) if vae is None else ()))
    folder = _parts(base, needed)
    layout = folder / "unet" / "config.json"
    if not layout.is_file():
        raise SteerError(f"base {base!r} has no unet/config.json; expected a Stable Diffusion 1.x or 2.x")
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            str(folder), unet=None, vae=None, safety_checker=None, requires_safety_checker=False
        )
        decoder = AutoencoderKL.from_pretrained(str(folder / "vae" if vae is None else _parts(vae, ())))
    except Exception as error:  # missing parts, damaged weights: a dozen kinds
        raise SteerError(
            f"base {base!r} or autoencoder {vae!r} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    model = _built(base, pipe, read_object(layout, "base"), decoder, replace(config, time_scale=1.0))
    load_state(model, {**state, "context": model.context.data}, str(file))
    return model.eval().requires_grad_(False)


TEXT_PARTS = ("model_index.json", "text_encoder", "tokenizer", "scheduler")


def _parts(name: str, needed: Sequence[str]) -> Path:
    """Return a folder with parts of a model, the UNet's layout among them; of the hub only these are fetched.

    Args:
        name: a folder or a hub id.
        needed: folders and files of it; all if there are none.
    """
    source = Source(name)
    if source.folder is not None:
        return source.folder
    first = needed[0] if needed else "config.json"
    if not hub.reachable():
        cached = hub.cached_file(name, first)
        if cached is None:
            raise SteerError(
                f"{name!r} is no folder and not in the hub's cache, and the hub cannot be reached (offline)"
            )
        return cached.parent
    files = [file for file, _ in hub.listing(name)]
    for file in files:
        if not needed or file.partition("/")[0] in needed or file == "unet/config.json":
            hub.fetch(name, file)
    return hub.fetch(name, first).parent


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the tensors ``unet.*`` of a checkpoint without running code from it.

    Raises:
        SteerError: for a file that cannot be read, or has other names.
    """
    content = read_tensors(file, keys=NESTED)
    state = {name.removeprefix("module."): value for name, value in content.items()}
    odd = [name for name in state if not name.startswith(PREFIX)]
    if odd or not state:
        shown = f"{len(odd)} other names ({odd[0]}, …)" if odd else "none"
        raise SteerError(f"checkpoint {file}: expected only tensors named {PREFIX}*, got {shown}")
    return state


def fetched(name: str) -> Path:
    """Return a checkpoint's file: a local one, or ``ORG/REPOSITORY/FILE`` of the hub, fetched into its cache.

    Raises:
        SteerError: if there is neither.
    """
    source, parts = Source(name), name.split("/", 2)
    if source.path is not None and source.folder is None:
        return source.path
    if len(parts) < 3 or source.like_a_path:
        raise SteerError(
            f"checkpoint {name} does not exist; expected a file, or one on the hub such as "
            "ocaetas/SymmFlow/LatFM_coco_beta6.0.pt"
        )
    repo, path = "/".join(parts[:2]), parts[2]
    found = hub.cached_file(repo, path)
    if found is None and not hub.reachable():
        raise SteerError(
            f"checkpoint {name} is not a local file or in the hub's cache, and the hub cannot be reached (offline); "
            "go online once to fetch it, or give a local file"
        )
    return found or hub.fetch(repo, path)
