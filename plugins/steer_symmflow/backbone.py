"""A SymmFlow model as a backbone: the sampler draws images from a mask or a class, with all hooks."""

from collections.abc import Hashable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from steer import Prompt, SteerError
from steer.plugin import Backbone, Conditioning, Encoded, unknown
from steer_symmflow import flow, infer
from steer_symmflow.asked import asked, checked, named, wanted
from steer_symmflow.model import SymmFlowModel, find, load
from steer_symmflow.process import SymmetricFlow


class SymmFlow(Backbone):
    """Draws from ``prompt.metadata["mask"]`` (a file) or ``["class"]`` (a label's name)."""

    default_steps = 10
    default_guidance = 1.0
    inputs = frozenset({"mask", "class"})

    def __init__(self, model: SymmFlowModel) -> None:
        self.model = model
        device = next(model.parameters()).device
        super().__init__(SimpleNamespace(scheduler=None, _execution_device=device, components={}), model)

    def guided(self, guidance_scale: float) -> bool:
        return False

    def completed(self, prompt: Prompt) -> Prompt:
        self._present(prompt)
        return checked(self.model.config, prompt)

    def conditioned_on(self, prompt: Prompt) -> tuple[Hashable, ...]:
        metadata = prompt.metadata
        return (str(metadata.get("mask")), str(metadata.get("class")), bool(metadata.get("nearest")))

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        return {"semantics": self.semantics_of(prompt)}, None

    def semantics_of(self, prompt: Prompt) -> Tensor:
        """Return the semantics half ``[1, C, h, w]`` for a prompt's metadata.

        Raises:
            SteerError: for a mask or class that is missing, of another size, or unknown to the model.
        """
        self._present(prompt)
        labels = asked(self.model.config, prompt)
        with torch.no_grad():
            return infer.half_of(self.model, labels[None].to(self.device))

    def _present(self, prompt: Prompt) -> None:
        """Raise if a prompt lacks the mask or class that this model draws from."""
        key = wanted(self.model.config)
        if prompt.metadata.get(key) is None:
            other = "class" if key == "mask" else "mask"
            got = f", got a {other}" if prompt.metadata.get(other) is not None else ""
            raise SteerError(f"this model draws from a {key}{got}; give one with --{key} (prompt {named(prompt)})")

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        config = self.model.config
        own = config.size
        if (height or own[0], width or own[1]) != own:
            raise SteerError(f"size {width}x{height}: this model draws {own[1]}x{own[0]}; leave --size out")
        return self.model.half_shape

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> SymmetricFlow:
        solver = settings.get("scheduler") or "euler"
        if solver not in flow.SOLVERS:
            raise unknown("scheduler", solver, flow.SOLVERS)
        if settings.get("timesteps") is not None:
            raise SteerError("a symmetric flow has steps of its own; leave timesteps out and give --steps")
        if settings["guidance_scale"] != self.default_guidance or settings["negative"]:
            raise SteerError("a symmetric flow has no guidance; leave --guidance and the negative prompt out")
        shift = self.model.config.shift
        return SymmetricFlow(settings["steps"], solver, settings.get("eta"), settings.get("transitions"), shift)

    def initial(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        return flow.join(noise, conditioning.cond["semantics"].to(noise))

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        out: Tensor = self.denoisers[denoiser](x, timestep)
        return out

    def decode(self, x: Tensor) -> Tensor:
        return (self.model.decode(flow.split(x)[0]) / 2 + 0.5).clamp(0, 1)


def from_name(name: str, device: torch.device, dtype: torch.dtype) -> SymmFlow:
    """Load ``symmflow:NAME``; see :func:`steer_symmflow.model.find` for valid names."""
    return SymmFlow(load(find(name), device, dtype))
