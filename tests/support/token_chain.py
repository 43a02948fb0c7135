"""A masked diffusion small enough to enumerate: three tokens of three kinds, a denoiser that is a table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning, Encoded
from steer.models.media.text import Texts
from steer.prompts.prompt import Prompt
from steer_text.process import MaskedDiffusion

WORDS, LENGTH, STEPS = "abc", 3, 3
MASK = len(WORDS)
STATES = list(itertools.product(range(MASK + 1), repeat=LENGTH))
"""Every sequence of tokens and masks."""
FINAL = [state for state in STATES if MASK not in state]


def table() -> Tensor:
    """Return logits ``[states, LENGTH, MASK + 1]``, arbitrary: nothing makes them a posterior of anything."""
    return 0.7 * torch.randn(len(STATES), LENGTH, MASK + 1, generator=torch.Generator().manual_seed(7))


class Chain(Backbone):
    """Draws words of three letters; a prompt's letters are a prefix."""

    modality = "text"
    default_steps = STEPS
    default_guidance = 1.0

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(scheduler=None, _execution_device=torch.device("cpu")), torch.nn.Linear(1, 1))
        self.table = table()
        self.place = (MASK + 1) ** torch.arange(LENGTH - 1, -1, -1)

    def guided(self, guidance_scale: float) -> bool:
        return False

    def encode_one(self, prompt: Prompt, negative: str | None) -> Encoded:
        given = [WORDS.index(letter) for letter in str(prompt)]
        return {"given": torch.tensor([given + [MASK] * (LENGTH - len(given))])}, None

    def latent_shape(self, width: int | None, height: int | None) -> tuple[int, ...]:
        return (LENGTH,)

    def process(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> MaskedDiffusion:
        return MaskedDiffusion(settings["steps"], MASK)

    def initial(self, noise: Tensor, conditioning: Conditioning) -> Tensor:
        return conditioning.cond["given"]

    def predict(self, denoiser: str, x: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        return self.table[(x * self.place).sum(dim=1)]

    def decode(self, x: Tensor) -> Texts:
        return Texts("".join(WORDS[token] for token in row) for row in x.tolist())


def exact(prefix: str = "") -> dict[str, float]:
    """Return the probability of each word under the sampler, by going through every path of the chain."""
    logits = table()
    logits[..., MASK] = -torch.inf
    tables = torch.softmax(logits.double(), dim=-1).numpy()
    start = (*(WORDS.index(letter) for letter in prefix), *[MASK] * (LENGTH - len(prefix)))
    here = {start: 1.0}
    for step in range(STEPS):
        t, s = 1 - step / STEPS, 1 - (step + 1) / STEPS
        there: dict[tuple[int, ...], float] = {}
        for state, mass in here.items():
            rows = tables[STATES.index(state)]
            each = []
            for place, token in enumerate(state):
                shown = (t - s) / t
                ways = {token: 1.0} if token != MASK else {
                    **{word: shown * rows[place, word] for word in range(MASK)}, **({MASK: 1 - shown} if s > 0 else {})
                }  # fmt: skip
                each.append(ways)
            for next_state in itertools.product(*each):
                weight = np.prod([ways[token] for ways, token in zip(each, next_state, strict=True)])
                there[next_state] = there.get(next_state, 0.0) + mass * float(weight)
        here = there
    return {"".join(WORDS[token] for token in state): mass for state, mass in here.items()}


SCORES = dict(
    zip(
        ["".join(WORDS[token] for token in state) for state in FINAL],
        np.random.default_rng(3).uniform(-1, 1, size=len(FINAL)).round(3).tolist(),
        strict=True,
    )
)
"""A reward of each word."""


def reward(samples: Sequence[str], prompts: Sequence[Prompt]) -> Tensor:
    """Score words."""
    return torch.tensor([SCORES[text] for text in samples], dtype=torch.float64)


def tilted(lam: float, prefix: str = "") -> tuple[dict[str, float], float]:
    """Return p(word)·exp(λ·score)/Z of every word, and log Z."""
    weights = {word: mass * np.exp(lam * SCORES[word]) for word, mass in exact(prefix).items()}
    total = sum(weights.values())
    return {word: weight / total for word, weight in weights.items()}, float(np.log(total))
