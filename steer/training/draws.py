"""Randomness keyed by purpose and step, so that a resumed run draws the same numbers as an uninterrupted one."""

import zlib

import numpy as np
import torch
from torch import Tensor


class Draw:
    """The generators of one micro-batch.

    Attributes:
        rng: for choosing data.
        noise: for noise, on the CPU.
    """

    def __init__(self, *key: int | str) -> None:
        """Key both by numbers and names, such as seed, purpose, step and number of the micro-batch."""
        sequence = np.random.SeedSequence(
            [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
        )
        self.rng = np.random.default_rng(sequence)
        self.noise = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))

    def uniform(self, *shape: int) -> Tensor:
        """Return uniform numbers in [0, 1) on the CPU."""
        return torch.rand(*shape, generator=self.noise)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal noise on the CPU."""
        return torch.randn(*shape, generator=self.noise)
