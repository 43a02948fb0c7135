"""Steered sampling with ComfyUI's MODEL, CONDITIONING, LATENT and VAE. ComfyUI is imported when it samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steer import Method, Prompt, State, SteerError
from steer.plugin import RewardFunction, Run, Start, make_methods, manager, methods_of
from steer_comfyui.choosing import Latent, to_images, to_samples
from steer_comfyui.population import Model, Population, Steps, prepared

BROWNIAN = tuple(
    f"dpmpp_{order}{device}" for order in ("sde", "2m_sde", "2m_sde_heun", "3m_sde") for device in ("", "_gpu")
)
"""Samplers whose noise is that of a Brownian path, drawn by torchsde."""
STOCHASTIC = ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", *BROWNIAN, "ddpm", "lcm")
"""Samplers that FK can steer: they draw noise at each step, and keep nothing of earlier steps but estimates of x0."""


@dataclass(frozen=True)
class Settings:
    """What a sampler node is given; the names are those of ComfyUI's KSampler."""

    model: Any
    positive: Any
    negative: Any
    latent_image: Latent
    vae: Any
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float


@dataclass(frozen=True)
class Outcome:
    """The particles, best first.

    Attributes:
        latent: ComfyUI's LATENT.
        images: ComfyUI's IMAGE.
        scores: of each.
        report: plain data on where they come from.
    """

    latent: Latent
    images: Tensor
    scores: list[float]
    report: dict[str, Any]


def sampled(
    settings: Settings,
    prompt: Prompt,
    reward: RewardFunction,
    method: str,
    options: Mapping[str, Mapping[str, Any]],
    *,
    particles: int,
    keep: int,
) -> Outcome:
    """Sample one prompt with a method.

    Args:
        settings: the model and how it is sampled.
        prompt: with its seed.
        reward: scores the images.
        method: its name.
        options: of methods, by name.
        particles: rows of a population.
        keep: particles to return at most, best first.

    Raises:
        SteerError: if the method, the model and the sampler do not fit together, or memory does not suffice.
    """
    import comfy.samplers

    sampler = comfy.samplers.KSampler(
        settings.model, settings.steps, settings.model.load_device, settings.sampler_name, settings.scheduler,
        settings.denoise, settings.model.model_options,
    )  # fmt: skip
    sigmas = sampler.sigmas.float().cpu()
    if len(sigmas) < 2 or float(sigmas[-1]) != 0:
        raise SteerError(f"scheduler {settings.scheduler!r} leaves noise at the end; choose one that ends at sigma 0")
    latent = _one(settings)
    decoder = _Decoder(settings)
    run = prepared(
        _model(settings, decoder, sigmas),
        prompt,
        particles,
        len(sigmas) - 1,
        make_methods([method], options, manager()),
        reward,
    )

    def sample(start: Start | None = None) -> State:
        return _population(settings, decoder, latent, sigmas, run, run.start if start is None else start)

    state = _searched(run, sample)
    return _outcome(settings, state, run, keep)


def _searched(run: Run, sample: Callable[..., State]) -> State:
    """Return what the run's method makes of populations: its search, if it has one, or a single one."""
    (method,) = methods_of(run)
    search = getattr(method, "search", None)
    return sample() if search is None else search(run=run, sample=sample)


def _population(settings: Settings, decoder: _Decoder, latent: Latent, sigmas: Tensor, run: Run, start: Start) -> State:
    """Sample the rows of a start by ComfyUI."""
    import comfy.sample
    import comfy.samplers
    import comfy.utils
    import latent_preview

    methods: Sequence[Method] = methods_of(run)
    population = Population(run, start, methods, 1 if settings.cfg == 1 else 2)
    samples = latent["samples"].repeat(len(start), *[1] * (latent["samples"].ndim - 1))
    noise = population.streams.normal(samples.shape[1:], "cpu").to(samples.dtype)
    seeds = [(run.jobs[0].seed + slot) % 2**32 for slot in start.slot.tolist()]
    sampler = comfy.samplers.sampler_object(settings.sampler_name)
    own = sampler.sampler_function

    def steered(model: Any, x: Tensor, sigmas: Tensor, **given: Any) -> Tensor:
        if "noise_sampler" in inspect.signature(own).parameters:
            given["noise_sampler"] = _noise(settings.sampler_name, population, x, sigmas, seeds)
        decoder.sampling = [settings.model, *getattr(model.inner_model, "loaded_models", ())]
        return population.through(own, model, x, sigmas, **given)

    sampler.sampler_function = steered
    with _in_memory(len(start)):
        comfy.sample.sample_custom(
            settings.model, noise, settings.cfg, sampler, sigmas, settings.positive, settings.negative, samples,
            noise_mask=latent.get("noise_mask"), seed=seeds[0], disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            callback=latent_preview.prepare_callback(settings.model, len(sigmas) - 1),
        )  # fmt: skip
    assert population.state is not None
    return population.state


def _noise(name: str, population: Population, x: Tensor, sigmas: Tensor, seeds: list[int]) -> Callable[..., Tensor]:
    """Return the noise of a sampler's steps, of each row by itself: no image depends on the others of its batch."""
    if name in BROWNIAN:
        from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler

        lowest, highest = sigmas[sigmas > 0].min(), sigmas.max()
        brownian: Callable[..., Tensor] = BrownianTreeNoiseSampler(
            x, lowest, highest, seed=seeds, cpu=not name.endswith("_gpu")
        )
        return brownian

    def normal(sigma: Any, sigma_next: Any) -> Tensor:
        return population.streams.normal(x.shape[1:], x.device).to(x.dtype)

    return normal


class _Decoder:
    """ComfyUI's VAE.

    Attributes:
        sampling: the models that are at work meanwhile; ComfyUI may move them away to decode, so they are called back.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.sampling: list[Any] = []

    def __call__(self, x: Tensor) -> Tensor:
        """Return latents ``[B, …]`` of the sampler as samples."""
        from comfy import model_management

        latents = self._settings.model.model.process_latent_out(x.float())
        images = to_samples(self._settings.vae.decode(latents)).to(x.device)
        if self.sampling:
            model_management.load_models_gpu(self.sampling)
        return images


def _model(settings: Settings, decoder: _Decoder, sigmas: Tensor) -> Model:
    import comfy.model_sampling

    flow = isinstance(settings.model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    steps = Steps(sigmas.tolist(), flow=flow, stochastic=settings.sampler_name in STOCHASTIC)
    return Model(settings.model.model, settings.model.load_device, steps, decoder)


def _one(settings: Settings) -> Latent:
    """Return the LATENT that every particle begins with, its channels those of the model."""
    import comfy.sample

    count = len(settings.latent_image["samples"])
    if count != 1:
        raise SteerError(f"got {count} latents; give one (batch_size 1): the sampler makes its own batch of particles")
    samples = comfy.sample.fix_empty_latent_channels(settings.model, settings.latent_image["samples"])
    if samples.ndim == 5 and samples.shape[2] > 1:
        raise SteerError(f"got the latent of a video, {tuple(samples.shape)}; steer's nodes sample images: one frame")
    return {**settings.latent_image, "samples": samples}


@contextmanager
def _in_memory(rows: int) -> Iterator[None]:
    """Let an error of memory say what helps."""
    from comfy import model_management

    try:
        yield
    except model_management.OOM_EXCEPTION as error:
        model_management.unload_all_models()  # as ComfyUI does after its own error
        raise SteerError(
            f"memory does not suffice for {rows} images at once; lower particles or at_once, or the size"
        ) from error


def _outcome(settings: Settings, state: State, run: Run, keep: int) -> Outcome:
    rewards = state.rewards()
    order = torch.argsort(rewards, descending=True, stable=True)[:keep]
    latents = settings.model.model.process_latent_out(state.x.float()).cpu()
    seed = run.jobs[0].seed
    scores = rewards[order].tolist()
    report = {
        "prompt": str(run.jobs[0].prompt),
        "evaluations": run.cost.nfe,
        "scores": scores,
        "seeds": [(seed + slot) % 2**32 for slot in state.slot[order].tolist()],
        "ancestors": [(seed + slot) % 2**32 for slot in state.ancestors[order].tolist()],
        "log_weights": state.log_weight[order].tolist(),
        "resampled": [[event.step, event.data["ancestors"]] for event in state.events if event.kind == "resample"],
    }
    return Outcome({"samples": latents[order]}, to_images(state.samples[order.to(state.x.device)]), scores, report)
