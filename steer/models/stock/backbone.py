"""``AnyPipeline``: the backbone of pipelines whose class has no family here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.stock.calls import PausedCalls
from steer.models.stock.inputs import argument_of
from steer.models.stock.networks import denoisers_of
from steer.models.stock.outputs import samples_of
from steer.models.stock.process import called
from steer.models.stock.signature import CallSignature
from steer.processes import Process
from steer.processes.schedulers import make_scheduler, set_timesteps
from steer.prompts.prompt import Prompt

LENGTHS = ("num_frames", "video_length")
"""Arguments for the number of frames."""
USUAL_FRAMES = 49


class AnyPipeline(Backbone):
    """A pipeline that is called as a whole, a population by calls of its own that are paused at each step.

    Methods resample, prune, choose and search as with a family. What needs a prediction at other latents, gradients
    or other weights is refused.
    """

    predicts = False
    packs_prompts = False
    usual_chunk = 1  # every pipeline can be called for one sample

    def __init__(self, pipe: Any) -> None:
        self.signature = CallSignature(type(pipe))
        self.signature.check()
        self.call_inputs = self.signature.inputs
        self.modality = self.signature.modality  # type: ignore[misc]
        denoisers = denoisers_of(pipe)
        if not denoisers:
            raise SteerError(f"{type(pipe).__name__} has no denoiser that is known here")
        super().__init__(pipe, next(iter(denoisers.values())))
        take = self.signature.default
        self.default_steps = take("num_inference_steps") or 50
        self.default_guidance = 1.0 if take("guidance_scale") is None else float(take("guidance_scale"))
        if "true_cfg_scale" in self.signature.parameters:
            self.cfg_setting = "true_cfg_scale"  # type: ignore[misc]
        if take("true_cfg_scale") is not None:
            self.own_defaults = {"true_cfg_scale": float(take("true_cfg_scale"))}
        self._known: dict[Any, Any] = {}

    # ---- runs --------------------------------------------------------------------------------------------------

    def guided(self, guidance_scale: float) -> bool:
        seen = [known["evaluations"] for known in self._known.values() if "evaluations" in known]
        return seen[-1] > 1 if seen else guidance_scale > 1 and "negative_prompt" in self.signature.parameters

    def completed(self, prompt: Prompt) -> Prompt:
        if self.usual_inputs:
            prompt = prompt.having(metadata={**self.usual_inputs, **prompt.metadata})
        for name, argument in self.signature.inputs.items():
            if argument.required and name not in prompt.metadata:
                raise SteerError(
                    f"{self.signature.name} needs {name} ({argument.expected}): give it by --input {name}=…, or as a "
                    "key of the prompt's row"
                )
        return prompt

    def encode(
        self,
        prompts: Sequence[Prompt],
        negative: Sequence[str],
        guidance_scale: float,
        *,
        embedded_scale: float | None = None,
    ) -> Conditioning:
        """Return nothing: the calls encode their prompts."""
        return Conditioning({}, None, guidance_scale)

    def process_for(self, settings: Mapping[str, Any], shape: tuple[int, ...], prompts: Sequence[Prompt]) -> Process:
        arguments = self._arguments(settings, prompts[0])
        scheduler = make_scheduler(settings["scheduler"], self.scheduler)
        # replaced by the call's own; until then they say how many there are
        keywords = {"mu": 0.0} if scheduler.config.get("use_dynamic_shifting") else {}
        set_timesteps(scheduler, settings["steps"], settings["timesteps"], **keywords)
        eta = settings["eta"]
        if eta is None and "eta" in inspect.signature(scheduler.step).parameters:
            eta = self._stock_eta

        def with_rows(generators: Sequence[torch.Generator]) -> Mapping[str, Any]:
            if len(prompts) > 1:  # only planned so far
                raise SteerError(f"{self.signature.name} is called for one prompt at a time, got {len(prompts)}")
            # a single generator for pipelines that take no list
            one = {"generator": generators[0]} if len(generators) == 1 else {"generator": list(generators)}
            count = {self.signature.batches: len(generators)} if self.signature.batches else {}
            return {**arguments, **count, **one}

        def samples(made: Any) -> Any:
            return samples_of(made, self.signature, arguments).to(self.device)

        most = 65_536 if self.signature.batches else 1
        calls = PausedCalls(self.pipe, with_rows, samples, most, self._known.setdefault(_key(arguments), {}))
        return called(scheduler, settings, eta, calls)

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        return ()

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the native size, for plans alone: a call may decide by its inputs."""
        config = getattr(self.denoisers["base"], "config", None)
        native = getattr(self.pipe, "default_sample_size", None) or getattr(config, "sample_size", None) or 64
        height, width = (native, native) if isinstance(native, int) else tuple(native)[-2:]
        factor = getattr(self.pipe, "vae_scale_factor", 1)
        return int(width * factor), int(height * factor)

    def frames(self, prompt: Prompt) -> int:
        """Return what the call is asked for; a guess if an input decides."""
        if self.medium.made_of is None:
            return 1
        asked = (prompt.metadata.get(name, self.signature.default(name)) for name in LENGTHS)
        return next((count for count in asked if isinstance(count, int)), USUAL_FRAMES)

    # ---- the call ----------------------------------------------------------------------------------------------

    def _arguments(self, settings: Mapping[str, Any], prompt: Prompt) -> dict[str, Any]:
        """Return the call's arguments, the generators left out.

        Raises:
            SteerError: for a setting that the pipeline does not take.
        """
        negative = prompt.metadata.get("negative", settings["negative"])
        wanted = {
            "prompt": (str(prompt), None),
            "num_inference_steps": (settings["steps"], None),
            "timesteps": (None if settings["timesteps"] is None else list(settings["timesteps"]), None),
            "guidance_scale": (settings["guidance_scale"], self.default_guidance),
            "true_cfg_scale": (settings["true_cfg_scale"], self.own_defaults.get("true_cfg_scale", 1.0)),
            "negative_prompt": (negative or None, None),
            "width": (settings["width"], None),
            "height": (settings["height"], None),
            "output_type": ("pt", None),
        }
        given: dict[str, Any] = {}
        for name, (value, usual) in wanted.items():
            if value is None or value == usual:
                continue
            if name not in self.signature.parameters:
                if name in ("prompt", "output_type"):
                    continue
                raise SteerError(f"{self.signature.name} takes no {name}; leave it out")
            given[name] = value
        return {**given, **self._inputs(prompt)}

    def _inputs(self, prompt: Prompt) -> dict[str, Any]:
        """Return the arguments that a prompt's row gives, files read."""
        taken = self.signature.inputs
        return {name: argument_of(taken[name], prompt.metadata[name]) for name in taken if name in prompt.metadata}

    # ---- what a call cannot do ---------------------------------------------------------------------------------

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        self._refuse()

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        self._refuse()

    def decode(self, x: Tensor) -> Tensor:
        self._refuse()

    def networks(self, denoiser: str) -> Sequence[torch.nn.Module]:
        return list(denoisers_of(self.pipe).values())

    def _refuse(self) -> NoReturn:
        raise SteerError(f"{self.signature.name} has no family in steer, and only its whole call can be made")


def _key(arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells calls apart whose shapes may differ."""

    def told(value: Any) -> Any:
        if isinstance(value, Image.Image):
            return value.mode, value.size
        return tuple(map(told, value)) if isinstance(value, list | tuple) else repr(value)[:200]

    return tuple((name, told(value)) for name, value in sorted(arguments.items()) if name != "prompt")
