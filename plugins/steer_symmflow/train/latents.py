"""Images encoded once, so that a training in latent space does not run its autoencoder on the same image each epoch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steer_symmflow.model import SymmFlowModel
from steer_symmflow.train.data import Stored, to_pixels

MOST_BYTES = 8 * 2**30
"""Of latents in memory; beyond that, images are encoded as they are drawn."""


class Latents:
    """The training images of a data set as halves of a model's state.

    Masks are not kept: their colors get fresh noise each time.
    """

    def __init__(self, model: SymmFlowModel, data: Stored, batch: int, device: torch.device) -> None:
        """Encode the images when the first batch is drawn, ``batch`` at a time, and keep them in fp32 on the CPU."""
        self._model, self._data, self._batch, self._device = model, data, batch, device
        self._kept: Tensor | None = None
        self._fit = 4 * data.count("train") * int(np.prod(model.half_shape)) <= MOST_BYTES

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Tensor, NDArray]:
        """Draw what :meth:`Stored.batch` draws: encoded images ``[N, C, h, w]`` on the device, and their targets."""
        places = self._data.places(rng, count)
        if not self._fit:
            return self._encoded(places), self._data.at(places)[1]
        if self._kept is None:
            every = np.arange(self._data.count("train"))
            parts = np.array_split(every, -(-len(every) // self._batch))
            self._kept = torch.cat([self._encoded(part).cpu() for part in parts])
        return self._kept[torch.from_numpy(places)].to(self._device), self._data.at(places)[1]

    @torch.no_grad()
    def _encoded(self, places: NDArray) -> Tensor:
        return self._model.encode(to_pixels(self._data.at(places)[0]).to(self._device))
