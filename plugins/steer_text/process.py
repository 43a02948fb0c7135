"""Absorbing-state diffusion of tokens (MDLM, arXiv 2406.07524): all masked at t = 1, all shown at t = 0."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from steer.plugin import Streams, in_double


class MaskedDiffusion:
    """The ancestral sampler of masked diffusion with α_t = 1 − t, as a :class:`steer.processes.Process`.

    States ``x`` are int64 tokens ``[N, L]``, predictions are logits ``[N, L, V]`` of x0. From t to s a masked token is
    shown with probability (α_s − α_t)/(1 − α_t), and is then drawn from the prediction; a shown token does not change
    (§3.2.3, SUBS). After the last step no token is masked.

    x0 is random here; each token is drawn independently (:class:`steer.processes.RandomX0`).
    """

    whole = True
    stochastic = True  # the choice of tokens to show is random at any temperature

    def __init__(self, steps: int, mask: int, *, temperature: float = 1.0) -> None:
        """Set the schedule.

        Args:
            steps: equally spaced transitions from t = 1 to t = 0.
            mask: the mask token's number, which is never drawn.
            temperature: divides the logits; at 0 the likeliest token is taken.
        """
        self.mask, self.temperature = mask, temperature
        self._times = torch.linspace(1, 0, steps + 1, dtype=torch.float64).tolist()
        self._timesteps = torch.tensor(self._times[:-1], dtype=torch.float32)
        self.index, self.length = 0, steps

    @property
    def done(self) -> bool:
        return self.index >= self.length

    @property
    def timestep(self) -> Tensor:
        return self._timesteps[min(self.index, self.length - 1)]

    @property
    def level(self) -> tuple[float, float]:
        t = self._times[self.index]
        return 1 - t, t

    def prior(self, noise: Tensor) -> Tensor:
        """Return only masks, ``[N, L]``; the noise has no effect."""
        return torch.full(noise.shape, self.mask, dtype=torch.int64, device=noise.device)

    def model_input(self, x: Tensor) -> Tensor:
        return x

    def estimate(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Return x with the likeliest token for each mask."""
        return torch.where(x == self.mask, self._without_mask(prediction).argmax(dim=-1), x)

    def draw_x0(self, x: Tensor, prediction: Tensor, uniform: Tensor) -> Tensor:
        masked = (x == self.mask).unsqueeze(1)
        return torch.where(masked, self._draw(prediction, uniform), x.unsqueeze(1))

    def step(self, x: Tensor, prediction: Tensor, streams: Streams) -> Tensor:
        t, s = self._times[self.index], self._times[self.index + 1]
        # two numbers per token, masked or not, so that a stream's position does not depend on its particle
        show, which = streams.uniform((2, *x.shape[1:]), x.device).unbind(dim=1)
        shown = (x == self.mask) & (show < (t - s) / t)
        self.index += 1
        return torch.where(shown, self._draw(prediction, which.unsqueeze(1)).squeeze(1), x)

    def select(self, rows: Tensor, count: int) -> None:
        return  # nothing is kept per particle

    def _without_mask(self, prediction: Tensor) -> Tensor:
        """Return logits under which the mask is never drawn."""
        logits = prediction.clone()
        logits[..., self.mask] = float("-inf")
        return logits

    def _draw(self, prediction: Tensor, uniform: Tensor) -> Tensor:
        """Draw tokens ``[N, m, L]`` from logits ``[N, L, V]`` with uniform numbers ``[N, m, L]``, by inverting the
        distribution function in fp64, where rounding is far below any token's probability."""
        logits = self._without_mask(prediction)
        if self.temperature == 0:
            return logits.argmax(dim=-1).unsqueeze(1).expand(uniform.shape)
        probabilities = torch.softmax(in_double(logits) / self.temperature, dim=-1)
        levels = probabilities.cumsum(dim=-1)
        # a number that rounds to 1 must not pass the last possible token
        target = uniform.movedim(1, -1) * levels[..., -1:]
        found = torch.searchsorted(levels, target.contiguous(), right=True)
        last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(dim=-1, keepdim=True)
        return found.minimum(last).movedim(-1, 1).to(prediction.device)


class OwnPace:
    """Base of the processes whose particles take their steps at their own pace, as in batches of one each.

    Attributes:
        most: steps if no particle is done before.
    """

    whole = True
    index = 0
    most: int
    _rows: list[Any]  # of each particle, with an attribute ``done``

    @property
    def done(self) -> bool:
        return bool(self._rows) and all(row.done for row in self._rows)

    def select(self, rows: Tensor, count: int) -> None:
        self._rows = [copy.deepcopy(self._rows[row]) for row in rows.tolist()]

    @property
    def length(self) -> int:
        return max(self.index, self.most)

    @property
    def timestep(self) -> Tensor:
        return torch.tensor(float(self.length - self.index))

    @property
    def level(self) -> tuple[float, float]:
        share = self.index / self.length
        return share, 1 - share


def drawn(logits: Tensor, temperature: float, uniform: Tensor) -> Iterator[Tensor]:
    """Yield m draws of tokens ``[N, L]`` from logits ``[N, L, V]``; of ``uniform [N, m, …]``, the first L are used."""
    levels = torch.softmax(in_double(logits) / temperature, dim=-1).cumsum(dim=-1)
    for numbers in uniform[..., : logits.shape[1], None].unbind(dim=1):
        found = torch.searchsorted(levels, (numbers * levels[..., -1:]).contiguous(), right=True).squeeze(-1)
        yield found.clamp(max=levels.shape[-1] - 1).to(logits.device)
