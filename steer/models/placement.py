"""``Placed``: a model's parts, and where they are."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from steer.models.common import overflow_safe
from steer.models.denoisers import Denoisers
from steer.models.following import offload_like
from steer.models.lent import Lent
from steer.models.options import group_offloaded, modules_of, offloaded
from steer.models.room import Residence, movable

ENCODERS = ("text_encoder", "image_encoder")
"""What the names of a pipeline's parts begin with that are needed only until a prompt is encoded."""


class Placed:
    """The parts of a pipeline on their devices: all on one, some waiting on the CPU, or placed by their owner.

    Attributes:
        pipe: the pipeline.
        denoisers: modules by name; ``"base"`` is the pipeline's own.
        device: of the denoiser, when this was made.
    """

    def __init__(self, pipe: Any, denoiser: torch.nn.Module) -> None:
        self.pipe = pipe
        self.denoisers = Denoisers(denoiser)
        # with offloading the weights may be elsewhere; read once, because the pipeline walks all its modules for it
        self.device: torch.device = pipe._execution_device
        self._lent: Lent | None = None
        # views share it: a copy of the autoencoder is made once
        self._safe_vae = functools.cache(lambda: overflow_safe(pipe.vae))
        self._residence: Residence | None = None

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
        leaving = {name for name, part in parts.items() if name.startswith(ENCODERS) and movable(part)}
        encoders = [part for name, part in parts.items() if name in leaving]
        rest = [part for name, part in parts.items() if name not in leaving]
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
    def autoencoder(self) -> Any:
        """The pipeline's autoencoder, as it decodes; :attr:`safe_vae` in families whose own overflows in fp16."""
        return self.pipe.vae

    @property
    def safe_vae(self) -> Any:
        """The autoencoder, in fp32 where its fp16 activations overflow."""
        if self._residence is not None:
            return overflow_safe(self.pipe.vae, ours=True)
        return overflow_safe(self.pipe.vae) if offloaded(self.pipe.vae) else self._safe_vae()

    @property
    def offloaded(self) -> bool:
        """Whether parts move between devices when called, so that no two may be called at once."""
        return any(map(offloaded, getattr(self.pipe, "components", {}).values()))

    @property
    def leaves_early(self) -> bool:
        """Whether layers leave the device as soon as they were called, before a way back could need them."""
        return any(map(group_offloaded, getattr(self.pipe, "components", {}).values()))

    @contextmanager
    def recomputing(self, denoiser: str) -> Iterator[None]:
        """Return a context in which denoiser and decoder keep few activations within themselves for the way back.

        Only on a GPU: it costs a forward, and a machine's own memory is larger.
        """
        module = self.denoisers.resolve(denoiser)
        self.enter(encoding=False)
        parts: list[Any] = [] if self.device.type == "cpu" else [module]
        if parts and getattr(self.pipe, "vae", None) is not None:
            parts.append(self.autoencoder)
        able = [part for part in parts if getattr(part, "_supports_gradient_checkpointing", False)]
        changed = [part for part in able if not part.is_gradient_checkpointing]
        for part in changed:
            part.enable_gradient_checkpointing()
        try:
            yield
        finally:
            for part in changed:
                part.disable_gradient_checkpointing()
