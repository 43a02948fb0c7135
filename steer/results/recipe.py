"""``Recipe``: everything that reproduces a sample. An image's file carries it; a text's stands beside it."""

import functools
import importlib.metadata
from dataclasses import asdict, dataclass, field
from typing import Any

from steer.prompts.prompt import Prompt
from steer.settings.strict_json import json_text

SCHEMA = 1
PNG_KEY = "steer"
"""Key of the recipe among the texts in a file; ``parameters`` holds the text that A1111 tools read."""


@dataclass(frozen=True)
class Recipe:
    """Model, prompt, settings, methods and rewards of a sample.

    Attributes:
        model: the model's name as given.
        model_options: LoRAs and the like (:class:`steer.models.options.ModelOptions`).
        prompt: text, id, category, seed and metadata.
        settings: the run's settings as resolved, chunk size included.
        methods: names or file references, outermost first.
        reward: expressions.
        options: plugin options.
        choose: how the result was chosen.
        run_seed: from it and the prompt's id the seed was hashed.
        device: device type and dtype of the weights; bits depend on them.
        versions: of the packages that decide the bits.
        sampler: the scheduler's name as A1111 spells it, or its class.
        replayable: whether names suffice; false if a method, a reward or the model was an object in memory.
        judge: names of judges; no image depends on them.
        files: the SHA-256 of each local file of weights, and of code, by its name in the recipe.
        weights: digests of all weights that are no such files, by their names: of parts of the model, of the preview
            decoder, of LoRAs, of weights that a method brought, and of rewards.
        cfg_setting: the setting with the scale of classifier-free guidance (:class:`steer.models.backbone.Backbone`).
    """

    model: str
    model_options: dict[str, Any]
    prompt: dict[str, Any]
    settings: dict[str, Any]
    methods: list[str]
    reward: list[str]
    options: dict[str, dict[str, Any]]
    choose: str
    run_seed: int
    device: str
    dtype: str
    versions: dict[str, str]
    sampler: str
    replayable: bool = True
    judge: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    cfg_setting: str = "guidance_scale"
    schema: int = field(default=SCHEMA)

    def as_prompt(self) -> Prompt:
        """Return the prompt with its seed."""
        p = self.prompt
        return Prompt(p["text"], id=p["id"], category=p["category"], seed=p["seed"], metadata=p["metadata"])

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def texts(self, slot: int) -> dict[str, str]:
        """Return the texts that the file of one slot's sample carries: the recipe, and ``parameters``."""
        payload = json_text({**self.as_dict(), "slot": slot}, sort_keys=True)
        return {PNG_KEY: payload, "parameters": self.parameters(slot)}

    def parameters(self, slot: int) -> str:
        """Return the ``parameters`` text that A1111 and tools like it read."""
        s = self.settings
        lines = [self.prompt["text"]]
        negative = self.prompt["metadata"].get("negative") or s.get("negative")
        if negative:
            lines.append(f"Negative prompt: {negative}")
        facts = {
            "Steps": s["steps"],
            "Sampler": self.sampler,
            "CFG scale": s[self.cfg_setting],
            **({} if self.cfg_setting == "guidance_scale" else {"Distilled CFG Scale": s["guidance_scale"]}),
            "Seed": (self.prompt["seed"] + slot) % 2**32,
            **({} if s["width"] is None or s["height"] is None else {"Size": f"{s['width']}x{s['height']}"}),
            # ten digits find a model on Civitai
            **({"Model hash": self.files[self.model][:10]} if self.model in self.files else {}),
            "Model": self.model,
        }
        if s.get("eta") is not None:
            facts["Eta"] = s["eta"]
        lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in facts.items()))
        return "\n".join(lines)


A1111_NAMES = {
    "DDIMScheduler": "DDIM",
    "DDPMScheduler": "DDPM",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "UniPCMultistepScheduler": "UniPC",
    "PNDMScheduler": "PLMS",
    "LMSDiscreteScheduler": "LMS",
    "HeunDiscreteScheduler": "Heun",
    "KDPM2DiscreteScheduler": "DPM2",
    "KDPM2AncestralDiscreteScheduler": "DPM2 a",
    "LCMScheduler": "LCM",
}
"""A1111's names of diffusers' schedulers."""


def sampler_name(scheduler: str | None, own: Any) -> str:
    """Return a scheduler's name as A1111 spells it, or its class's name.

    Args:
        scheduler: the short name that was asked for, if any.
        own: the model's own scheduler, used if ``name`` is ``None``.
    """
    if own is None:  # a process without a scheduler of diffusers knows its solvers by their short names
        return scheduler or "default"
    from steer.processes.schedulers import make_scheduler

    made = make_scheduler(scheduler, own)
    class_name = type(made).__name__
    name = A1111_NAMES.get(class_name, class_name)
    if class_name == "DPMSolverMultistepScheduler" and str(made.config.get("algorithm_type", "")).startswith("sde"):
        name += " SDE"
    if made.config.get("use_exponential_sigmas"):
        return f"{name} Exponential"
    return f"{name} Karras" if made.config.get("use_karras_sigmas") else name


def _quoted(value: object) -> str:
    """Quote a value that would break the list of facts, as A1111 does."""
    text = str(value)
    return json_text(text, readable=True) if any(c in text for c in ",:\n") else text


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide an image's bits."""
    return {name: _version(name) for name in ("steer", "torch", "diffusers")}


@functools.cache  # reading a package's metadata takes milliseconds, as much as a small image
def _version(name: str) -> str:
    try:
        return importlib.metadata.version("steer-diffusion" if name == "steer" else name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
