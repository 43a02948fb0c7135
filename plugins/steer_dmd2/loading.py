"""From the user's options to a student: the place of its weights, its steps, and a denoiser with these weights."""

import functools
import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import (
    Source,
    Weights,
    at_hand,
    locate,
    message_of,
    mismatch,
    quantized,
    read_tensors,
    scheduler_kind,
    shapes_of,
    unknown,
)
from steer_dmd2 import differences
from steer_dmd2.options import DMD2Options
from steer_dmd2.presets import PRESETS, Variant, check_fits, declared, fitting
from steer_dmd2.student import WEIGHTS, not_made_for, read_card

BARE_TIMESTEPS = {1: (399,), 4: (999, 749, 499, 249)}
"""Published timesteps for a bare file, by number of steps."""
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
LAYER = re.compile(r"lora\w*?(_B|[._]up)\.")
"""Matches the name of exactly one tensor per LoRA layer, in every known format."""


@dataclass(frozen=True)
class Chosen:
    """A student whose weights may not be on this machine yet.

    Attributes:
        name: its name in the run's recipe and in the table of denoisers.
        source: its weights: a local file, or one on the hub.
        form: ``"unet"``, ``"difference"`` or ``"lora"``.
        timesteps: explicit ones, or ``None`` for the scheduler's own.
        scheduler: steer's short name of it.
        given: path of the user's own copy of the hub's file.
        scale: weight of a LoRA.
    """

    name: str
    source: Path | Weights
    form: str
    steps: int
    timesteps: tuple[int, ...] | None
    scheduler: str = "lcm"
    given: str | None = None
    scale: float = 1.0

    def at_hand(self) -> Path | None:
        """Return the file of its weights if it is on this machine, ``None`` if it can be fetched.

        Raises:
            SteerError: if it is not here and cannot be fetched.
        """
        if isinstance(self.source, Path):
            return self.source
        return at_hand(self.source, owner=f"dmd2:{self.name}", given=self.given)

    def file(self) -> Path:
        """Return the file of its weights; fetch it if it is not on this machine."""
        if isinstance(self.source, Path):
            return self.source
        return locate(self.source, owner=f"dmd2:{self.name}", given=self.given)


def check_takes_students(backbone: Any) -> None:
    """Raise for a model that no student can be of."""
    if not backbone.continuous:
        raise SteerError(f"dmd2 has students of image models only, and this model makes {backbone.modality}s; drop it")
    if backbone.scheduler is None:
        raise SteerError("dmd2 has students of diffusers pipelines only, and this model is not one; drop it")
    backbone.check_predicts("dmd2")


def choose(options: DMD2Options, backbone: Any) -> Chosen:
    """Find the student that the options name for a model; reads the shapes of its weights, and fetches no weights.

    For a student given by a hub id, the card is fetched (under a kilobyte), because it holds the steps.

    Raises:
        SteerError: if there is none, it was made for other models or steps, or its weights are not available.
    """
    check_takes_students(backbone)
    chosen = _chosen(options, backbone)
    if quantized(backbone.denoisers["base"]):
        raise SteerError(
            f"student {chosen.name!r} is made of the model's whole weights, and these are quantized; "
            f"{_way(chosen, backbone)}"
        )
    file = chosen.at_hand()
    if file is not None and chosen.form != "lora":
        _check_shapes(chosen, file, backbone.denoisers["base"])
    return chosen


def _way(chosen: Chosen, backbone: Any) -> str:
    """Say how to use a student on a quantized model."""
    if chosen.form != "lora" or not isinstance(chosen.source, Weights) or chosen.timesteps is not None:
        return "take the model as it is, without --quantize"
    source, off = chosen.source, " --guidance 1" if backbone.cfg_setting == "guidance_scale" else ""
    return (
        f"drop dmd2 and give the LoRA to the model: --lora {source.repo}/{source.file}:{chosen.scale:g} "
        f"--steps {chosen.steps} --scheduler {chosen.scheduler}{off}"
    )


def _chosen(options: DMD2Options, backbone: Any) -> Chosen:
    family, prediction = type(backbone.pipe).__name__, prediction_of(backbone)
    config = backbone.denoisers["base"].config
    name = options.student
    if name is None:
        fits = fitting(family, config, prediction)
        if not fits:
            raise SteerError(
                f"dmd2 knows no student for a {family} like this one; name one with -o dmd2.student=…, or train one "
                "with `steer train dmd2`"
            )
        name = fits[0]
    if name not in PRESETS:
        if options.weights is not None:
            raise SteerError("dmd2.weights is for known students; give a folder or file as dmd2.student itself")
        path = Source(name).path
        if path is not None:
            return (
                _by_card(path, path / WEIGHTS, name, backbone, options) if path.is_dir() else _bare(path, name, options)
            )
        return _of_hub(name, backbone, options)
    if options.timesteps is not None:
        raise SteerError(f"dmd2.timesteps is for a student in a bare file; those of {name!r} are known")
    check_fits(name, family, config, prediction)
    preset = PRESETS[name]
    steps = preset.default_steps if options.steps is None else options.steps
    if steps not in preset.variants:
        raise not_made_for(name, steps, preset.variants)
    variant: Variant = preset.variants[steps]
    if isinstance(variant.source, Path):
        return _by_card(variant.source, variant.source / WEIGHTS, name, backbone, options, steps)
    return Chosen(
        name,
        variant.source,
        variant.form or preset.form,
        steps,
        variant.timesteps,
        variant.scheduler or preset.scheduler,
        options.weights,
        preset.scale,
    )


def prediction_of(backbone: Any) -> str:
    """Return what a model's denoiser predicts, by its scheduler's configuration: ``"epsilon"``, ``"v_prediction"``."""
    return str(backbone.scheduler.config.get("prediction_type", "epsilon"))


def scheduler_of(backbone: Any) -> str:
    """Return steer's short name of the scheduler that students of a model are drawn with: x0 is noised again."""
    return "flow-lcm" if scheduler_kind(backbone.scheduler) == "flow" else "lcm"


def _by_card(
    folder: Path, source: Path | Weights, name: str, backbone: Any, options: DMD2Options, steps: int | None = None
) -> Chosen:
    card, family, prediction = read_card(folder), type(backbone.pipe).__name__, prediction_of(backbone)
    if card.family != family:
        raise SteerError(f"student {name!r} was made from a {card.family} ({card.base}), but the model is a {family}")
    if card.prediction not in (None, prediction):
        raise SteerError(
            f"student {name!r} was made from a model with {card.prediction} ({card.base}), but this model has "
            f"{prediction}"
        )
    if options.timesteps is not None:
        raise SteerError(f"dmd2.timesteps is for a student in a bare file; {name!r} has its own")
    timesteps = card.timesteps(options.steps if steps is None else steps, name)
    if isinstance(source, Path) and not source.is_file():
        raise SteerError(f"student folder {folder} has no {WEIGHTS}; copy or train it again")
    return Chosen(name, source, card.form, len(timesteps), timesteps, scheduler_of(backbone))


def _of_hub(name: str, backbone: Any, options: DMD2Options) -> Chosen:
    if not Source(name).like_an_id():
        known = ", ".join(sorted(PRESETS))
        raise SteerError(
            f"{unknown('student', name, PRESETS)}; or give a folder written by `steer train dmd2`, a file, or a hub id"
            if "/" not in name
            else f"student {name!r} does not exist; expected a folder, a file, a hub id or a known name ({known})"
        )
    card, weights = (needed for needed in declared(name) if isinstance(needed, Weights))
    return _by_card(locate(card, owner=f"dmd2:{name}").parent, weights, name, backbone, options)


def _bare(file: Path, name: str, options: DMD2Options) -> Chosen:
    if file.suffix not in SUFFIXES:
        raise SteerError(f"student file {file}: expected one of {', '.join(SUFFIXES)}")
    steps = options.steps or len(options.timesteps or BARE_TIMESTEPS[4])
    timesteps = options.timesteps or BARE_TIMESTEPS.get(steps)
    if timesteps is None or len(timesteps) != steps:
        got = "no dmd2.timesteps" if timesteps is None else f"{len(timesteps)} of them"
        raise SteerError(f"dmd2.steps={steps} of the student file {file} needs {steps} timesteps, got {got}")
    if list(timesteps) != sorted(set(timesteps), reverse=True) or timesteps[-1] < 1:
        raise SteerError(f"dmd2.timesteps={timesteps}: expected distinct timesteps above 0, highest first")
    form = "lora" if any("lora" in tensor for tensor in _shapes(file)) else "unet"
    return Chosen(name, file, form, steps, timesteps)


def denoiser(chosen: Chosen, backbone: Any, file: Path) -> nn.Module:
    """Return a module like the model's denoiser with the student's weights; the model's own denoiser is unchanged.

    Args:
        file: the student's weights, from :meth:`Chosen.file`.

    Raises:
        SteerError: if the weights do not fit the model.
    """
    base = backbone.denoisers["base"]
    own = base.state_dict() if chosen.form == "unet" else _in_memory(base)
    if chosen.form == "lora":
        return _fused(chosen, backbone, base, own, file)
    if backbone.denoisers.loras and chosen.form == "unet":
        warnings.warn(
            f"student {chosen.name!r} has weights of its own, so the model's LoRAs have no effect: "
            f"{', '.join(backbone.denoisers.loras)}; leave them out, or take a student that is a LoRA",
            stacklevel=2,
        )
    _check_shapes(chosen, file, base)
    state, device = _read(file), backbone.brought_to
    if chosen.form == "difference":
        placed = {name: differences.added(tensor, state, name).to(device) for name, tensor in own.items()}
    else:  # a copy, because the tensors are mapped to their file, which may be overwritten
        placed = {name: state[name].to(device, tensor.dtype, copy=True) for name, tensor in own.items()}
    module: nn.Module = _like(base, placed, device).eval().requires_grad_(False)
    return module


def _like(base: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """Return a module like ``base`` with the given tensors; they are not copied, and ``base``'s hooks are left out."""
    with torch.device("meta"):
        module = type(base).from_config(base.config)
    module.load_state_dict(tensors, assign=True)
    for name, buffer in base.named_buffers():
        if name not in tensors:  # computed and in no file, such as a transformer's table of positions
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner).register_buffer(leaf, buffer.to(device), persistent=False)
    for own, original in zip(module.modules(), base.modules(), strict=True):
        for name, value in vars(original).items():
            if isinstance(value, Tensor):  # no buffer: Qwen-Image's table of positions
                setattr(own, name, value)
    return module


def _fused(chosen: Chosen, backbone: Any, base: Any, own: Mapping[str, Tensor], file: Path) -> nn.Module:
    pipeline = type(backbone.pipe)
    device = backbone.brought_to
    module = _like(base, {name: tensor.to(device, copy=True) for name, tensor in own.items()}, device)
    try:
        part = "unet" if hasattr(pipeline, "load_lora_into_unet") else "transformer"
        load = getattr(pipeline, f"load_lora_into_{part}")
        read = pipeline.lora_state_dict(_read(file), unet_config=base.config, return_alphas=True)
        state, alphas = read if isinstance(read, tuple) else (read, None)
        others = {name.partition(".")[0] for name in state if not name.startswith(f"{part}.")}
        state = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
        if not state:
            raise ValueError(f"no tensors for the {part}")
        if others:
            warnings.warn(
                f"student {chosen.name!r}: what {file.name} has for {', '.join(sorted(others))} is left out; a student "
                f"replaces the {part} alone",
                stacklevel=2,
            )
        scaled = {"network_alphas": alphas} if "network_alphas" in inspect.signature(load).parameters else {}
        load(state, **{part: module}, adapter_name="dmd2", **scaled)
        if "dmd2" not in getattr(module, "peft_config", {}):
            raise ValueError("the model has none of its layers")
        layers = sum(LAYER.search(name) is not None for name in state)
        taken = sum(".lora_B." in name for name, _ in module.named_parameters())
        if taken < layers:
            raise ValueError(f"{layers - taken} of its {layers} layers are not in the model")
    except ImportError as error:
        raise SteerError("a LoRA student needs peft: pip install 'steer-diffusion[lora]'") from error
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = message_of(error)
        raise SteerError(f"student {chosen.name!r} is for another base: {file.name}: {reason}") from error
    module.fuse_lora(lora_scale=chosen.scale, adapter_names=["dmd2"])
    module.unload_lora()
    fused: nn.Module = module.eval().requires_grad_(False)
    return fused


def _in_memory(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors, with copies on the CPU of those that come to the device only while they compute."""
    tensors: dict[str, Tensor] = module.state_dict()
    if any(tensor.is_meta for tensor in tensors.values()):
        for place, part in module.named_modules():
            with align_module_device(part, "cpu"):
                held = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
                named = {f"{place}.{name}".lstrip("."): tensor for name, tensor in held}
                tensors |= {name: tensor.detach().clone() for name, tensor in named.items() if name in tensors}
    return tensors


def _check_shapes(chosen: Chosen, file: Path, base: nn.Module) -> None:
    """Raise if the header of a file does not list exactly the tensors that a student of a denoiser has."""
    expected = {tensor: tuple(value.shape) for tensor, value in base.state_dict().items()}
    if chosen.form == "difference":
        expected = differences.shapes(expected)
    # computed, but stored in some files
    computed = {buffer for buffer, _ in base.named_buffers()} - expected.keys()
    problem = mismatch(expected, {tensor: shape for tensor, shape in _shapes(file).items() if tensor not in computed})
    if problem:
        raise SteerError(f"student {chosen.name!r} is for another base: {file.name} has tensors {problem}")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's tensors by name, without loading the tensors.

    Raises:
        SteerError: if the file cannot be read.
    """
    return _shapes_of(file, file.stat().st_mtime_ns)


@functools.lru_cache(8)  # called for every pack
def _shapes_of(file: Path, _changed: int) -> dict[str, tuple[int, ...]]:
    return shapes_of(file, what="student file")


def _read(file: Path) -> dict[str, Tensor]:
    return read_tensors(file, what="student file")
