"""``Backbone``: the base class of model families; ``Conditioning``; and helpers that families share."""

from __future__ import annotations

import abc
import copy
import functools
import inspect
import threading
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.denoisers import Denoisers
from steer.models.encodings import Encoded as Encoded
from steer.models.encodings import Encodings
from steer.models.following import offload_like
from steer.models.lent import Lent
from steer.models.media import Medium, media_of
from steer.models.options import group_offloaded, modules_of, offloaded
from steer.models.room import Residence, rows_at_once
from steer.processes import Process
from steer.processes.gaussian import Gaussian
from steer.processes.glass import Glass
from steer.processes.noise import Streams
from steer.processes.rows import taking
from steer.processes.schedulers import make_scheduler, set_timesteps
from steer.prompts.prompt import Prompt
from steer.prompts.syntax import WRITTEN


def evaluations(guided: bool) -> int:
    """Return how many denoiser evaluations a prediction takes: with guidance, one more without the prompt."""
    return 2 if guided else 1


@dataclass(frozen=True)
class Conditioning:
    """Encoded inputs of J prompts.

    Attributes:
        cond: name to ``[J, …]``.
        uncond: the same for the empty or negative prompt, ``None`` if guidance is off.
        guidance_scale: applied by :meth:`Backbone.predict`.
    """

    cond: Mapping[str, Tensor]
    uncond: Mapping[str, Tensor] | None
    guidance_scale: float

    @property
    def guided(self) -> bool:
        """Whether there is guidance."""
        return self.uncond is not None

    @property
    def ragged(self) -> bool:
        """Whether texts have lengths of their own, in ``length`` ``[J]``. One forward cannot hold several prompts then:
        padding would make the last bits of an image depend on the other prompts."""
        return "length" in self.cond

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations that one prediction takes."""
        return evaluations(self.guided)

    def rows(self, jobs: Tensor) -> Conditioning:
        """Return one row for each index into the prompts."""

        take = taking(jobs)
        cond, uncond = (
            None if tensors is None else {name: take(value) for name, value in tensors.items()}
            for tensors in (self.cond, self.uncond)
        )
        return Conditioning(cond or {}, uncond, self.guidance_scale)

    def batched(self, name: str) -> Tensor:
        """Return a tensor of both halves in the order that pipelines use: unconditional first."""
        if self.uncond is None:
            return self.cond[name]
        return torch.cat([self.uncond[name], self.cond[name]])


ENCODERS = ("text_encoder", "image_encoder")
"""What the names of a pipeline's parts begin with that are needed only until a prompt is encoded."""


class Backbone(abc.ABC):
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

    def __init__(self, pipe: Any, denoiser: torch.nn.Module) -> None:
        self.pipe = pipe
        self.medium: Medium = media_of(self.modality)
        self.scheduler = pipe.scheduler
        self.denoisers = Denoisers(denoiser)
        # with offloading the weights may be elsewhere; read once, because the pipeline walks all its modules for it
        self.device: torch.device = pipe._execution_device
        self._lent: Lent | None = None
        # views share it: a copy of the autoencoder is made once
        self._safe_vae = functools.cache(lambda: overflow_safe(pipe.vae))
        self.encodings = Encodings()
        self._residence: Residence | None = None
        self._encoding = threading.Lock()

    def view(self) -> Self:
        """Return this model with a table of denoisers of its own, to which a run's methods add; all else is shared."""
        view = copy.copy(self)
        view.denoisers = self.denoisers.view()
        return view

    def lend(self) -> None:
        """Say that the pipeline belongs to somebody else, who gets it back as it was after each use."""
        self._lent = Lent(self.pipe)

    def reside(self, device: torch.device, *, crowded: bool) -> None:
        """Take charge of where the pipeline's parts are.

        Args:
            device: where they compute.
            crowded: whether encoders and the other parts take turns there; all are on the CPU now. If not, all are on
                the device, until :meth:`crowd` is called.
        """
        parts = modules_of(self.pipe)
        encoders = [part for name, part in parts.items() if name.startswith(ENCODERS)]
        rest = [part for name, part in parts.items() if not name.startswith(ENCODERS)]
        self.device = device
        self._residence = Residence(
            device, encoders, lambda: list(dict.fromkeys([*rest, *self.denoisers.read()])), crowded=crowded
        )

    @property
    def crowded(self) -> bool:
        """Whether the device has no room for the encoders beside the other parts, so that the two take turns."""
        return self._residence is not None and self._residence.crowded

    def crowd(self) -> bool:
        """Let the encoders leave the device whenever nothing is encoded; return whether this made room."""
        return self._residence is not None and self._residence.crowd()

    def bytes_held(self) -> int:
        """Return the bytes of weights on the device while nothing is encoded; 0 if others decide where parts are."""
        return 0 if self._residence is None else self._residence.bytes_held()

    def enter(self, *, encoding: bool) -> None:
        """Have the parts at hand that encode, or all others."""
        if self._residence is not None:
            self._residence.enter(encoding=encoding)

    @property
    def brought_to(self) -> torch.device:
        """The device on which methods make the weights that they bring: the CPU if those come to the GPU when used."""
        return torch.device("cpu") if self.offloaded or self._residence is not None else self.device

    def ready(self, module: torch.nn.Module) -> None:
        """Place a denoiser that a method has made on :attr:`brought_to` as the model's own is placed."""
        if self._residence is not None:
            self._residence.wait(module)
        elif self.offloaded:
            offload_like(module, self.denoisers["base"], self.pipe, self.device)

    def bring(self, denoiser: str, *, alone: bool = False) -> None:
        """Have a denoiser on the device; ``alone`` lets the model's own and those of methods wait on the CPU."""
        if self._residence is not None:
            placed = self.denoisers.read()
            module = self.denoisers[denoiser]
            if module in placed:
                self._residence.use(module, placed if alone else ())

    def inference(self) -> AbstractContextManager[None]:
        """Return the context in which the model is used: its modules in inference mode."""
        return nullcontext() if self._lent is None else self._lent

    @property
    def safe_vae(self) -> Any:
        """The autoencoder, in fp32 where its fp16 activations overflow."""
        return overflow_safe(self.pipe.vae) if offloaded(self.pipe.vae) else self._safe_vae()

    @classmethod
    def precision(cls, dtype: torch.dtype) -> torch.dtype | dict[str, torch.dtype]:
        """Return the ``dtype`` argument of ``from_pretrained``: by part, if some parts overflow in ``dtype``."""
        return dtype

    @abc.abstractmethod
    def guided(self, guidance_scale: float) -> bool:
        """Whether this scale of classifier-free guidance needs two evaluations per prediction."""

    def completed(self, prompt: Prompt) -> Prompt:
        """Return a prompt whose metadata hold everything that its images depend on, so that their recipe is complete. A
        file that the prompt names is read here.

        Raises:
            SteerError: for a prompt that cannot be used.
        """
        return prompt

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
        guided = self.guided(guidance_scale)
        rows = [
            self._encode_cached(prompt, text if guided else None)
            for prompt, text in zip(prompts, negative, strict=True)
        ]
        cond = _stacked([cond for cond, _ in rows])
        uncond = _stacked([uncond for _, uncond in rows if uncond is not None]) if guided else None
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
        """Return how many of some latents ``[B, …]`` to decode together; on a CPU, which has more memory, all."""
        rows = len(latents)
        if self.device.type == "cpu" or not self.continuous:
            return rows
        if torch.is_grad_enabled() and latents.requires_grad:
            return 1  # the way back takes several times as much
        width, height = self.pixels(latents.shape[1:])
        return rows_at_once(rows, width * height)

    @contextmanager
    def recomputing(self, denoiser: str) -> Iterator[None]:
        """Return a context in which denoiser and decoder keep few activations within themselves for the way back.

        Only on a GPU: it costs a forward, and a machine's own memory is larger.
        """
        self.enter(encoding=False)
        parts: list[Any] = [] if self.device.type == "cpu" else [self.denoisers[denoiser]]
        if parts and getattr(self.pipe, "vae", None) is not None:
            parts.append(self.safe_vae)
        able = [part for part in parts if getattr(part, "_supports_gradient_checkpointing", False)]
        changed = [part for part in able if not part.is_gradient_checkpointing]
        for part in changed:
            part.enable_gradient_checkpointing()
        try:
            yield
        finally:
            for part in changed:
                part.disable_gradient_checkpointing()

    @property
    def continuous(self) -> bool:
        """Whether samples depend smoothly on their initial noise, as methods that change the noise need."""
        return self.medium.continuous

    @property
    def offloaded(self) -> bool:
        """Whether parts move between devices when called, so that no two may be called at once."""
        return any(map(offloaded, getattr(self.pipe, "components", {}).values()))

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

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Any:
        """Decode final latents ``[B, …]`` to samples of :attr:`modality`.

        Returns:
            Images as float ``[B, 3, H, W]`` in [0, 1], texts as :class:`steer.models.media.text.Texts`.
        """

    def schedule_keywords(self, steps: int, shape: tuple[int, ...], config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline's arguments of ``set_timesteps`` besides the steps: ``sigmas``, a flow's shift ``mu``.

        Args:
            shape: of one particle's latents.
            config: of the scheduler, whose class may differ from the pipeline's own.
        """
        return {}


def guide(out: Tensor, guidance_scale: float) -> Tensor:
    """Apply classifier-free guidance to ``[2·B, …]``, unconditional half first (arXiv 2207.12598, eq. 6)."""
    uncond, cond = out.chunk(2)
    return uncond + guidance_scale * (cond - uncond)


def to_image(decoded: Tensor) -> Tensor:
    """Turn a decoder's output in [−1, 1] into samples in [0, 1]."""
    image = decoded.float() / 2 + 0.5
    # an infinite value would be clamped to white, and nobody told
    return image.masked_fill(image.isinf(), torch.nan).clamp(0, 1)


def unscaled(x: Tensor, config: Any) -> Tensor:
    """Return latents ``[B, C, H, W]`` scaled for an autoencoder, by its configuration: mean and standard deviation of
    each channel, else one factor and one shift."""
    mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(x) for values in (mean, std))
        scaled: Tensor = x * std / config.scaling_factor + mean
        return scaled
    shifted: Tensor = x / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return shifted


def overflow_safe(vae: Any) -> Any:
    """Return a VAE in fp32 if its fp16 activations overflow.

    It is a copy, so that the pipeline's own does not change. An offloaded VAE is converted in place, because its hooks
    hold the other parts of the pipeline, and a copy would copy and move them all.
    """
    if vae.dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        return vae
    if group_offloaded(vae):
        raise SteerError(
            "the autoencoder overflows in fp16, and one under group offload cannot change its precision: call "
            "pipe.vae.to(torch.float32) before enable_group_offload"
        )
    return vae.float() if offloaded(vae) else copy.deepcopy(vae).float()


def warn_if_cut(tokenizer: Any, prompt: str, limit: int) -> None:
    """Warn if a prompt has more tokens than the text encoder takes, and say what is cut off."""
    ids = tokenizer(str(prompt), truncation=False).input_ids
    if len(ids) > limit:
        special = tokenizer.num_special_tokens_to_add()
        ends = ids[-1] in tokenizer.all_special_ids  # an end token stays and takes a word's place
        cut = tokenizer.decode(ids[limit - 1 if ends else limit :], skip_special_tokens=True)
        if not cut.strip():  # special tokens alone
            return
        shown = cut if len(cut) <= 120 else f"{cut[:119]}…"
        warnings.warn(
            f"prompt {prompt[:40]!r}… has {len(ids) - special} tokens, the text encoder takes {limit - special}; "
            f"cut off: {shown!r}",
            stacklevel=2,
        )


def _stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate each tensor over the prompts, ragged ones padded with zeros at the end of dimension 1."""

    def stack(tensors: list[Tensor]) -> Tensor:
        longest = max((t.shape[1] for t in tensors if t.ndim > 1), default=0)
        padded = [
            torch.cat([t, t.new_zeros(1, longest - t.shape[1], *t.shape[2:])], dim=1)
            if t.ndim > 1 and t.shape[1] < longest
            else t
            for t in tensors
        ]
        return torch.cat(padded)

    return {name: stack([row[name] for row in rows]) for name in rows[0]}


def check_size(width: int, height: int, multiple: int) -> None:
    """Raise unless both sides are positive multiples of ``multiple`` pixels."""
    for name, value in (("width", width), ("height", height)):
        if value < multiple or value % multiple:
            near = max(multiple, round(value / multiple) * multiple)
            raise SteerError(
                f"{name}={value} does not fit the model: expected a multiple of {multiple}, such as {near}"
            )
