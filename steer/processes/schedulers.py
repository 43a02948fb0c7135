"""Schedulers by name, made fresh for every population."""

import inspect
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from steer.errors import SteerError, unknown


@dataclass(frozen=True)
class Named:
    """A scheduler by its short name: the diffusers class and its changes to the pipeline's own configuration.

    Attributes:
        kind: ``"diffusion"`` (alphas_cumprod; ε-, v- or x0-prediction), ``"flow"`` (x = (1−σ)·x0 + σ·noise), ``"edm"``
            (x = x0 + σ·noise, the model preconditioned as in arXiv 2206.00364, table 1) or ``"trigflow"``
            (x = cos(t)·x0 + sin(t)·noise).
    """

    class_name: str
    kind: str = "diffusion"
    changes: dict[str, Any] = field(default_factory=dict)


DPM = "DPMSolverMultistepScheduler"
KARRAS, EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
ODE, SDE = {"algorithm_type": "dpmsolver++"}, {"algorithm_type": "sde-dpmsolver++"}
SHIFT3 = {
    "base_shift": math.log(3),
    "max_shift": math.log(3),
    "shift": 1.0,
    "shift_terminal": None,
    "time_shift_type": "exponential",
    "use_dynamic_shifting": True,
}
"""A shift by 3 at every size, written as Qwen-Image-Lightning's configuration does, and so the same to the bit."""
FLOW_SIGMAS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}

SCHEDULERS: dict[str, Named] = {
    "ddim": Named("DDIMScheduler"),
    "ddpm": Named("DDPMScheduler"),
    "euler": Named("EulerDiscreteScheduler"),
    "euler-karras": Named("EulerDiscreteScheduler", changes=KARRAS),
    "euler-a": Named("EulerAncestralDiscreteScheduler"),
    "euler-trailing": Named("EulerDiscreteScheduler", changes={"timestep_spacing": "trailing"}),
    "euler-trailing-x0": Named(
        "EulerDiscreteScheduler", changes={"timestep_spacing": "trailing", "prediction_type": "sample"}
    ),
    "ddim-trailing": Named("DDIMScheduler", changes={"timestep_spacing": "trailing"}),
    "tcd": Named("TCDScheduler"),
    "euler-a-trailing": Named("EulerAncestralDiscreteScheduler", changes={"timestep_spacing": "trailing"}),
    "dpm++": Named(DPM, changes=ODE),
    "dpm++-karras": Named(DPM, changes=ODE | KARRAS),
    "dpm++-sde": Named(DPM, changes=SDE),
    "dpm++-sde-karras": Named(DPM, changes=SDE | KARRAS),
    "dpm++-exponential": Named(DPM, changes=ODE | EXPONENTIAL),
    "dpm++-sde-exponential": Named(DPM, changes=SDE | EXPONENTIAL),
    "unipc": Named("UniPCMultistepScheduler"),
    "unipc-karras": Named("UniPCMultistepScheduler", changes=KARRAS),
    "deis": Named("DEISMultistepScheduler"),
    "pndm": Named("PNDMScheduler", changes={"skip_prk_steps": True}),
    "lms": Named("LMSDiscreteScheduler"),
    "lms-karras": Named("LMSDiscreteScheduler", changes=KARRAS),
    "lcm": Named("LCMScheduler"),
    "heun": Named("HeunDiscreteScheduler"),
    "heun-karras": Named("HeunDiscreteScheduler", changes=KARRAS),
    "dpm2": Named("KDPM2DiscreteScheduler"),
    "dpm2-karras": Named("KDPM2DiscreteScheduler", changes=KARRAS),
    "dpm2-a": Named("KDPM2AncestralDiscreteScheduler"),
    "dpm2-a-karras": Named("KDPM2AncestralDiscreteScheduler", changes=KARRAS),
    "flow-euler": Named("FlowMatchEulerDiscreteScheduler", "flow"),
    "flow-euler-shift3": Named("FlowMatchEulerDiscreteScheduler", "flow", SHIFT3),
    "flow-lcm": Named("FlowMatchLCMScheduler", "flow"),
    "flow-dpm++": Named(DPM, "flow", FLOW_SIGMAS | ODE),
    "flow-dpm++-sde": Named(DPM, "flow", FLOW_SIGMAS | SDE),
    "flow-unipc": Named("UniPCMultistepScheduler", "flow", FLOW_SIGMAS),
    "flow-heun": Named("FlowMatchHeunDiscreteScheduler", "flow"),
    "edm-euler": Named("EDMEulerScheduler", "edm"),
    "edm-dpm++": Named("EDMDPMSolverMultistepScheduler", "edm", ODE),
    "edm-dpm++-sde": Named("EDMDPMSolverMultistepScheduler", "edm", SDE),
    "scm": Named("SCMScheduler", "trigflow"),
}


def scheduler_kind(scheduler: Any) -> str:
    """Return the training of a pipeline with this scheduler: ``"flow"``, ``"edm"``, ``"trigflow"``, ``"diffusion"``."""
    if type(scheduler).__name__.startswith("EDM"):
        return "edm"
    if scheduler.config.get("prediction_type") == "trigflow":
        return "trigflow"
    flow = "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("prediction_type") == "flow_prediction"
    return "flow" if flow else "diffusion"


def make_scheduler(name: str | None, base: Any) -> Any:
    """Return a fresh scheduler: the pipeline's own kind, or the named one with the pipeline's configuration.

    Raises:
        SteerError: for an unknown name, or a scheduler that the model was not trained for.
    """
    if name is None:
        return type(base).from_config(base.config)
    if name not in SCHEDULERS:
        raise unknown("scheduler", name, SCHEDULERS)
    named, kind = SCHEDULERS[name], scheduler_kind(base)
    if named.kind != kind:
        fitting = ", ".join(n for n, other in SCHEDULERS.items() if other.kind == kind)
        raise SteerError(
            f"scheduler {name!r} is for {named.kind} models, this one is of the kind {kind!r}; use one of {fitting}"
        )
    import diffusers  # takes seconds; showing a method's options must not wait for it

    cls, changes = getattr(diffusers, named.class_name), named.changes
    if type(base) is cls and not changes:
        return cls.from_config(base.config)
    parameters = inspect.signature(cls.__init__).parameters
    if base.config.get("use_dynamic_shifting") and "use_dynamic_shifting" not in parameters:
        raise SteerError(
            f"scheduler {name!r} cannot shift noise levels by the image's size, as this model needs; use flow-euler, "
            "flow-dpm++ or flow-unipc"
        )
    # classes differ in this default: a config without it would turn clipping on
    if "clip_sample" in parameters:
        changes = {"clip_sample": base.config.get("clip_sample", False), **changes}
    # two names of one option
    shift = base.config.get("shift", base.config.get("flow_shift"))
    if kind == "flow" and shift is not None:
        changes = {("flow_shift" if "flow_shift" in parameters else "shift"): shift, **changes}
    # diffusers would warn of keys that the other class does not have
    known = {key: value for key, value in base.config.items() if key in parameters or key.startswith("_")}
    return cls.from_config(known, **changes)


def set_timesteps(scheduler: Any, steps: int, timesteps: Sequence[float] | None, **keywords: Any) -> None:
    """Set a scheduler's timesteps: ``steps`` of the pipeline's spacing, or the given ones. They stay on the CPU.

    Args:
        keywords: the pipeline's arguments besides the steps (``sigmas``, ``mu``); those that this scheduler does not
            take are left out.

    Raises:
        SteerError: if there are more steps than the model was trained with, or explicit timesteps are not taken.
    """
    trained = scheduler.config.get("num_train_timesteps", 1000)
    if steps > trained:
        raise SteerError(f"steps={steps} is more than the scheduler's {trained} training timesteps; ask for fewer")
    if steps == 1 and timesteps is None and scheduler.config.get("shift_terminal"):
        raise SteerError("steps=1 is not possible with a schedule that is stretched to end above 0; ask for 2 or more")
    taken = inspect.signature(scheduler.set_timesteps).parameters
    keywords = {name: value for name, value in keywords.items() if name in taken}
    if not scheduler.config.get("use_dynamic_shifting"):
        keywords.pop("mu", None)
    if timesteps is not None:
        _set_explicit(scheduler, timesteps, trained, **keywords)
    elif "sigmas" in keywords:
        scheduler.set_timesteps(**keywords)
    else:
        scheduler.set_timesteps(steps, **keywords)


def _set_explicit(scheduler: Any, timesteps: Sequence[float], trained: int, **keywords: Any) -> None:
    flow, own = scheduler_kind(scheduler) == "flow", "FlowMatch" in type(scheduler).__name__
    # a diffusion solver on a flow takes them only with the noise levels of diffusion
    if "timesteps" not in inspect.signature(scheduler.set_timesteps).parameters or (flow and not own):
        others = "flow-euler" if flow else "ddpm, euler, dpm++ or lcm"
        raise SteerError(f"{type(scheduler).__name__} takes no explicit timesteps; use --scheduler {others}")
    if not flow:
        keywords.pop("sigmas", None)
        log = logging.getLogger(type(scheduler).__module__)
        log.disabled, before = True, log.disabled  # LCM's warns of a first timestep that students were trained for
        try:
            scheduler.set_timesteps(timesteps=list(timesteps), **keywords)
        finally:
            log.disabled = before
        return
    # the class shifts sigmas but not the given timesteps: make both agree
    sigmas = [t / trained for t in timesteps]
    keywords["sigmas"] = sigmas
    scheduler.set_timesteps(timesteps=list(timesteps), **keywords)
    scheduler.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)
