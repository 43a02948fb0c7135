"""What a pipeline's call takes, read from its signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from steer.errors import SteerError

OURS = frozenset(
    (
        *("self", "args", "kwargs", "prompt", "negative_prompt", "num_inference_steps", "timesteps", "sigmas", "eta"),
        *("guidance_scale", "true_cfg_scale", "width", "height", "generator", "latents", "batch_size", "seed"),
        *("output_type", "return_dict", "callback", "callback_steps", "num_images_per_prompt"),
        *("num_videos_per_prompt", "callback_on_step_end", "callback_on_step_end_tensor_inputs"),
    )
)
"""Parameters that are set by settings of the run, or by steer itself."""
NOT_TYPED = re.compile(r"latents|embed|kwargs|attention_mask|cu_seqlens|pooled|callback|hidden|sem_guidance")
"""Names of parameters that take tensors or objects, which nobody can type."""
VIDEO = {"num_frames", "video_length", "num_videos_per_prompt", "video", "frame_rate", "fps", "frames", "frame_ids"}
AUDIO = {"num_waveforms_per_prompt", "audio_length_in_s", "audio_duration", "audio_duration_s", "audio_end_in_s"}
TEXT = {"gen_length", "block_length", "max_new_tokens"}
STEERED = ("image", "video")
"""Modalities of samples that calls may make."""
FILES = ("image", "video")
"""Kinds of arguments that files give."""
BATCHES = ("num_images_per_prompt", "num_videos_per_prompt")
"""Parameters for the number of samples that one call makes of a prompt."""

ALONE = frozenset({"LattePipeline"})
"""Pipelines that cut the embeddings of one prompt where it ends, and pad those of several."""


@dataclass(frozen=True)
class Argument:
    """An argument of a call that users give.

    Attributes:
        name: as in the signature.
        kind: ``"image"``, ``"video"``, ``"flag"``, ``"number"``, ``"whole"`` (number) or ``"text"``.
        many: whether it may be a list of these.
        required: whether the call does not go without it.
    """

    name: str
    kind: str
    many: bool
    required: bool

    @property
    def expected(self) -> str:
        """What it takes, for messages."""
        one = {
            "image": "an image file",
            "video": "a video file",
            "flag": "true or false",
            "number": "a number",
            "whole": "a whole number",
            "text": "a text",
        }[self.kind]
        return f"{one}, or a list of them" if self.many else one


@dataclass(frozen=True)
class CallSignature:
    """The call of a pipeline class.

    Attributes:
        pipeline: the class.
    """

    pipeline: type

    @property
    def name(self) -> str:
        """The class's name."""
        return self.pipeline.__name__

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The call's parameters."""
        return inspect.signature(self.pipeline.__call__).parameters

    def default(self, name: str) -> Any:
        """Return a parameter's default; ``None`` without one."""
        found = self.parameters.get(name)
        return None if found is None or found.default is inspect.Parameter.empty else found.default

    @property
    def modality(self) -> str:
        """What the pipeline makes."""
        names = self.parameters.keys()
        for modality, telling in (("video", VIDEO), ("audio", AUDIO), ("text", TEXT)):
            if names & telling:
                return modality
        return "image"

    @property
    def unfit(self) -> str:
        """Why such pipelines cannot be steered through their calls; empty if they can."""
        try:
            parts = inspect.signature(self.pipeline).parameters
        except ValueError:  # a class that Python does not define, such as int
            parts = {}  # type: ignore[assignment]
        if "scheduler" not in parts:
            return "it has no scheduler"
        missing = [name for name in ("generator", "num_inference_steps") if name not in self.parameters]
        if missing:
            return f"its call takes no {' and no '.join(missing)}"
        if self.modality not in STEERED:
            steered = " and ".join(f"{modality}s" for modality in STEERED)
            return f"it makes {self.modality}, and steer steers calls that make {steered}"
        return ""

    @property
    def batches(self) -> str | None:
        """The parameter for the number of samples per call, if there is one, and a sample is the same in any number."""
        if self.name in ALONE:
            return None
        return next((name for name in BATCHES if name in self.parameters), None)

    @cached_property
    def inputs(self) -> Mapping[str, Argument]:
        """The arguments that users give beside the text and the settings of runs, by name."""
        found = (self._argument(name, one) for name, one in self.parameters.items() if name not in OURS)
        return {argument.name: argument for argument in found if argument is not None}

    def check(self) -> None:
        """Raise if such pipelines cannot be steered through their calls.

        Raises:
            SteerError: saying why.
        """
        if self.unfit:
            raise SteerError(f"pipelines of class {self.name!r} cannot be steered: {self.unfit}")

    @staticmethod
    def _argument(name: str, parameter: inspect.Parameter) -> Argument | None:
        if NOT_TYPED.search(name) or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        empty, annotation = inspect.Parameter.empty, parameter.annotation
        said = "" if annotation is empty else annotation if isinstance(annotation, str) else str(annotation)
        if isinstance(annotation, type):
            said = annotation.__name__
        if not said and parameter.default not in (empty, None):
            said = type(parameter.default).__name__
        many = bool(re.search(r"\b(list|tuple)\b|\bsequence\b", said, re.IGNORECASE))
        kinds = (
            ("image", r"PIL|PipelineImageInput|\bImage\b"),
            ("flag", r"\bbool\b"),
            ("number", r"\bfloat\b"),
            ("whole", r"\bint\b"),
            ("text", r"\bstr\b"),
        )
        kind = next((kind for kind, pattern in kinds if re.search(pattern, said)), None)
        if kind is None and not said and re.search(r"image|mask", name):
            kind, many = "image", False
        if kind == "image" and re.search(r"video|frames", name):
            kind = "video"
        if kind is None or "Callable" in said:
            return None
        return Argument(name, kind, many, parameter.default is empty)
