"""``Backbone``: the base class of model families."""

from __future__ import annotations

import abc
import copy
import inspect
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.common import guided, to_image, unscaled
from steer.models.encoded_prompts import Conditioning, Encoded, evaluations, stacked
from steer.models.encodings import Encodings
from steer.models.media import Medium, media_of
from steer.models.placement import Placed
from steer.models.room import rows_at_once
from steer.models.stock.signature import Argument
from steer.models.weaker import Weaker
from steer.processes import Process
from steer.processes.gaussian import Gaussian
from steer.processes.glass import Glass
from steer.processes.noise import Streams
from steer.processes.schedulers import make_scheduler, set_timesteps
from steer.prompts.prompt import Prompt
from steer.prompts.syntax import WRITTEN

FAMILIES = ("Stable Diffusion", "SDXL", "SD3", "Flux", "FLUX.2", "PixArt", "Sana", "Qwen-Image", "Z-Image")
"""Model families whose denoiser can be called for any latents, for messages."""

Guider = Callable[[Tensor, Tensor, float, Tensor], Tensor]
"""Guidance: of conditional and unconditional output ``[B, …]``, scale and timestep it makes one output."""


class Backbone(Placed, abc.ABC):
    """One model family, mostly over a diffusers pipeline: encodes prompts, predicts and decodes.

    It is immutable: other weights are in the ``denoisers`` of a run's :meth:`view`, which shares encoder and decoder.
    Latents are ``[N, C, H, W]`` in the autoencoder's layout. A family that packs them does so in :meth:`predict`, so
    that noise, previews and methods see one layout in every family.

    Attributes:
        pipe: the pipeline whose parts are used.
        medium: the medium of its :attr:`modality`.
        denoisers: modules by name; ``"base"`` is the pipeline's own.
        scheduler: the pipeline's scheduler, a prototype that is never stepped.
        device: of the denoiser, when the backbone was made.
    """

    modality: ClassVar[str] = "image"
    """Kind of its samples, one of :data:`steer.models.media.MEDIA`; rewards declare theirs too."""
    noisy: ClassVar[Mapping[str, Any]] = {"eta": 1.0}
    """Settings under which transitions draw noise, for methods that need it if the defaults draw none."""
    default_steps: int = 50
    default_guidance: float = 7.5
    cfg_setting: ClassVar[str] = "guidance_scale"
    """The setting with the scale of classifier-free guidance; ``true_cfg_scale`` if the model takes
    ``guidance_scale`` as an input."""
    half: ClassVar[torch.dtype] = torch.float16
    """Default precision of the weights on CUDA."""
    preview: ClassVar[str | None] = None
    """The short name (:data:`steer.models.options.PREVIEWS`) of the preview decoder made for the family's latents."""
    optional: ClassVar[frozenset[str]] = frozenset({"feature_extractor", "image_encoder", "safety_checker"})
    """Parts of the pipeline that the family does without."""
    inputs: ClassVar[frozenset[str]] = frozenset()
    """Registered inputs that the model draws from, found in a prompt's metadata."""
    weighs_text: ClassVar[bool] = False
    """Whether it can encode texts with weights (:mod:`steer.prompts.syntax`)."""
    packs_prompts: ClassVar[bool] = True
    """Whether one population can hold several prompts; false if the number of steps depends on the prompt."""
    predicts: ClassVar[bool] = True
    """Whether it can be asked for predictions at any latents; false if a whole call is all that can be made."""
    usual_chunk: ClassVar[int | None] = None
    """Default of rows per forward; ``None`` leaves it to device and particles."""
    takes_guider: ClassVar[bool] = False
    """Whether :meth:`predict` leaves guidance to :meth:`guide`."""
    guider: Guider | None = None
    """Guidance other than classifier-free guidance; a run's view has its own."""
    weaker: Weaker | None = None
    """Prediction to guide away from; a run's view has its own."""
    call_inputs: Mapping[str, Argument] = {}
    """Inputs of the pipeline's call beside the text, from prompts' metadata."""
    usual_inputs: Mapping[str, Any] = {}
    """Those that a model has of its own, for prompts without them."""
    own_defaults: Mapping[str, Any] = {}
    """Defaults of further settings of a run."""

    def __init__(self, pipe: Any, denoiser: torch.nn.Module | None = None) -> None:
        """Args: pipe: the pipeline; denoiser: its denoiser, by default its ``transformer``."""
        super().__init__(pipe, pipe.transformer if denoiser is None else denoiser)
        self.medium: Medium = media_of(self.modality)
        self.scheduler = pipe.scheduler
        self.encodings = Encodings()
        self._encoding = threading.Lock()

    def view(self) -> Self:
        """Return this model with a table of denoisers of its own, to which a run's methods add; all else is shared."""
        view = copy.copy(self)
        view.denoisers = self.denoisers.view()
        return view

    @classmethod
    def precision(cls, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
        """Return the ``dtype`` argument of ``from_pretrained``: by part, if some parts overflow in ``dtype``."""
        return dtype

    def guided(self, guidance_scale: float) -> bool:
        """Whether this scale of classifier-free guidance needs two evaluations per prediction."""
        return guidance_scale > 1

    def scale_input(self, guidance_scale: float, embedded_scale: float | None) -> float | None:
        """Return the scale that the model takes as an input, ``scale`` of the conditioning; ``None`` if it takes none.

        Args:
            guidance_scale: as in :meth:`encode`, to warn here of one without effect.
            embedded_scale: as in :meth:`encode`.

        Raises:
            SteerError: for a guidance that the model does not have.
        """
        return None

    def completed(self, prompt: Prompt) -> Prompt:
        """Return a prompt whose metadata hold everything that its images depend on, so that their recipe is complete. A
        file that the prompt names is read here.

        Raises:
            SteerError: for a prompt that cannot be used.
        """
        return prompt

    def frames(self, prompt: Prompt) -> int:
        """Return the number of frames of a prompt's samples, for plans alone; 1 if they are no videos."""
        return 1

    def encode(
        self,
        prompts: Sequence[Prompt],
        negative: Sequence[str],
        guidance_scale: float,
        *,
        embedded_scale: float | None = None,
    ) -> Conditioning:
        """Encode J prompts and their negative prompts, one by one, so that none depends on its neighbors.

        Args:
            guidance_scale: of classifier-free guidance.
            embedded_scale: the scale for models that take one as an input.
        """
        guided, scale = self.guided(guidance_scale), self.scale_input(guidance_scale, embedded_scale)
        rows = [
            self._encode_cached(prompt, text if guided else None)
            for prompt, text in zip(prompts, negative, strict=True)
        ]
        cond = stacked([cond for cond, _ in rows])
        uncond = stacked([uncond for _, uncond in rows if uncond is not None]) if guided else None
        if scale is not None:
            for side in (cond, {} if uncond is None else uncond):
                side["scale"] = torch.full((len(prompts),), float(scale), device=self.device)
        return Conditioning(cond, uncond, guidance_scale)

    def _encode_cached(self, prompt: Prompt, negative: str | None) -> Encoded:
        written = prompt.metadata.get(WRITTEN) if self.weighs_text else None
        key = (str(prompt), written, negative, *self.conditioned_on(prompt))
        with self._encoding:  # a thread encodes texts ahead; tokenizers and the eviction must not run twice at once

            def encode() -> Encoded:
                self.enter(encoding=True)
                if written is None:
                    return self.encode_one(prompt, negative)
                return self.encode_weighted(prompt, written, negative)

            return self.encodings.get(key, encode)

    def conditioned_on(self, prompt: Prompt) -> tuple[Hashable, ...]:
        """Return everything except the texts that the conditioning depends on."""
        return ()

    @abc.abstractmethod
    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        """Encode one prompt, and its negative prompt unless that is ``None``.

        Tensors may differ in their second dimension from prompt to prompt; they are padded with zeros then, and the
        backbone keeps their length beside them.
        """

    def encode_weighted(self, prompt: Prompt, written: str, negative: str | None) -> Encoded:
        """Encode as :meth:`encode_one` does, with the weights that the texts give; only if :attr:`weighs_text`.

        Args:
            prompt: its plain words, and all else that the conditioning depends on.
            written: its words with their weights.
            negative: as written.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        """Return the shape of one particle's latents for an image of the given size in pixels.

        Raises:
            SteerError: for a size that the model cannot make.
        """

    def shape(self, settings: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the shape of one particle's ``x`` under a run's settings; for images, that of their latents.

        Raises:
            SteerError: for settings that the model cannot follow.
        """
        return self.latent_shape(settings["width"], settings["height"])

    def observers(self) -> Sequence[object]:
        """Return fresh objects with hook wrappers that add the family's own events to traces."""
        return ()

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return width and height of the image of latents with this shape."""
        factor = getattr(self.pipe, "vae_scale_factor", 8)
        return shape[-1] * factor, shape[-2] * factor

    def decoded_at_once(self, latents: Tensor) -> int:
        """Return how many of some latents ``[B, …]`` to decode together at most; on a CPU, with its memory, all."""
        if self.device.type == "cpu" or not self.continuous:
            return len(latents)
        if torch.is_grad_enabled() and latents.requires_grad:
            return 1  # the way back takes several times as much
        width, height = self.pixels(latents.shape[1:])
        return rows_at_once(width * height)

    def networks(self, denoiser: str) -> Sequence[torch.nn.Module]:
        """Return the modules that predict if the denoiser of this name is asked; those of a call, all that it has."""
        return [self.denoisers[denoiser]]

    def check_predicts(self, what: str) -> None:
        """Raise unless predictions at other latents, or by other weights, can be had.

        Args:
            what: needs them, for the message.

        Raises:
            SteerError: naming what can.
        """
        if not self.predicts:
            raise SteerError(
                f"{what} needs predictions of its own, and of {type(self.pipe).__name__} only whole calls can be made "
                "here; use fk, best-of-n, random, zero-order, prune or beam, or give steer.Sampler a model of a family "
                f"that it predicts with ({', '.join(FAMILIES)})"
            )

    @property
    def continuous(self) -> bool:
        """Whether samples depend smoothly on their initial noise, as methods that change the noise need."""
        return self.medium.continuous

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> Process:
        """Return a fresh noise process for latents of this shape, by the scheduler that the settings name.

        Args:
            settings: the run's, by name (:data:`steer.settings.run_settings.SETTINGS`).
        """
        scheduler = make_scheduler(settings["scheduler"], self.scheduler)
        steps = settings["steps"]
        keywords = self.schedule_keywords(steps, shape, scheduler.config)
        set_timesteps(scheduler, steps, settings["timesteps"], **keywords)
        if settings["transitions"] is not None:
            return Glass(scheduler, transitions=settings["transitions"], eta=settings["eta"])
        eta = settings["eta"]
        if eta is None and "eta" in inspect.signature(scheduler.step).parameters:
            eta = self._stock_eta
        return Gaussian(scheduler, eta=eta)

    @property
    def _stock_eta(self) -> float | None:
        """The eta that the pipeline's call gives its scheduler, which may have another default: TCD's is 0.3."""
        taken = inspect.signature(type(self.pipe).__call__).parameters.get("eta")
        return None if taken is None else taken.default

    def noise(self, streams: Streams, shape: tuple[int, ...]) -> Tensor:
        """Draw a population's initial noise ``[N, *shape]``; models without initial noise do not use the streams."""
        return streams.normal(shape, self.device)

    def process_for(self, settings: Mapping[str, Any], shape: tuple[int, ...], prompts: Sequence[Prompt]) -> Process:
        """Return a fresh noise process for a run's prompts; if it depends on them, they must not share packs."""
        return self.process(settings, shape)

    def initial(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the first x ``[N, …]`` of a population: the prior's noise, joined with parts that are known already.

        Args:
            noise: ``[N, *latent_shape]``.
            conditioning: one row for each.
        """
        return noise

    @abc.abstractmethod
    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's output ``[B, …]`` in fp32 for scaled latents, guidance applied."""

    def prediction(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Return what :meth:`predict` does, guided away from the weaker prediction if there is one."""
        weaker = self.weaker
        if weaker is None or not weaker.acts(timestep):
            return self.predict(denoiser, x, timestep, conditioning)

        def predict(x: Tensor, conditioning: Conditioning) -> Tensor:
            return self.predict(denoiser, x, timestep, conditioning)

        alone = conditioning.alone(conditioning.cond)
        cond, weak = weaker.predictions(predict, self.denoisers[denoiser], x, alone)
        out = cond
        if conditioning.uncond is not None:
            uncond = predict(x, conditioning.alone(conditioning.uncond))
            out = self.guide(cond, uncond, conditioning.guidance_scale, timestep)
        return out + weaker.scale * (cond - weak)

    def evaluations(self, guided: bool, timestep: Tensor) -> int:
        """Return how many denoiser evaluations a prediction takes at a timestep.

        Args:
            guided: by classifier-free guidance.
        """
        return evaluations(guided) + (self.weaker is not None and self.weaker.acts(timestep))

    def guide(self, cond: Tensor, uncond: Tensor, guidance_scale: float, timestep: Tensor) -> Tensor:
        """Combine the two outputs ``[B, …]`` of a guided prediction, row by row."""
        if self.guider is None:
            return guided(cond, uncond, guidance_scale)
        return self.guider(cond, uncond, guidance_scale, timestep)

    def decode(self, x: Tensor) -> Any:
        """Decode final latents ``[B, …]`` to samples of :attr:`modality`.

        Returns:
            Images as float ``[B, 3, H, W]`` in [0, 1], texts as :class:`steer.models.media.text.Texts`.
        """
        vae = self.autoencoder
        return to_image(vae.decode(unscaled(x.to(vae.dtype), vae.config), return_dict=False)[0])

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline's arguments of ``set_timesteps`` besides the steps: ``sigmas``, a flow's shift ``mu``.

        Args:
            shape: of one particle's latents.
            config: of the scheduler, whose class may differ from the pipeline's own.
        """
        return {}
