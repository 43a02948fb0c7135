"""The reward ``symmflow``: does an image match the prompt's mask or class?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from steer import Field, Options, Prompt, Reward, SteerError
from steer_symmflow import infer
from steer_symmflow.asked import asked, checked, named, wanted
from steer_symmflow.model import find, load
from steer_symmflow.reading.votes import fitted, noise_of

CACHED = 256
"""Most masks whose labels are cached."""


class SymmFlowOptions(Options):
    """Options of ``symmflow``."""

    steps: int = Field(1, ge=1, description="Steps of the flow from the image to its semantics.")
    draws: int = Field(1, ge=1, description="Noise draws; the reward is the mean of their agreements.")
    temperature: float = Field(
        0.5,
        gt=0,
        description="Temperature of the softmax over labels, in units of squared distance: for masks the "
        "mean over the channels in [-1, 1], for classes in half steps between two classes.",
    )


class Agreement(Reward):
    """How far an image's own segmentation or class agrees with ``metadata["mask"]`` or ``["class"]``, in [0, 1].

    The flow runs from (image, noise) at t=1 back to the semantics (arXiv 2506.10634), read as probabilities: for masks,
    a pixel's probabilities are a softmax of minus its squared distances to the labels' colors. For a mask, the score is
    the soft intersection over union Σ p·y / Σ (p + y − p·y), averaged over the mask's labels. For a class, it is the
    class's probability. Differentiable. ``symmflow:NAME`` chooses the model (``masks`` by default, or ``classes``).
    """

    differentiable = True
    Options = SymmFlowOptions
    options: SymmFlowOptions

    def prepare(self) -> None:
        """Load the model that ``argument`` names."""
        self.model = load(find(self.argument or "masks"), self.device, self.dtype or torch.float32)
        self._asked: dict[tuple[str, bool], Tensor] = {}

    def __call__(self, samples: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        """Return the agreement ``[N]``; images of other sizes are resized to the model's size."""
        labels = torch.stack([self._labels(prompt) for prompt in prompts]).to(self.device)
        images = fitted(samples.to(self.device, torch.float32), self.model.config.size)
        scores = [self._score(images, labels, draw) for draw in range(self.options.draws)]
        return torch.stack(scores).mean(dim=0).to(samples.device)

    def _score(self, images: Tensor, labels: Tensor, draw: int) -> Tensor:
        noise = noise_of(self.model, 0, draw).to(images).expand(len(images), -1, -1, -1)
        read = infer.semantic_half(self.model, images, noise, steps=self.options.steps)
        scores = infer.scores(self.model, read)
        if self.model.config.kind == "masks":
            scores = scores / 3  # a mean over channels
        return agreement(scores / self.options.temperature, labels)

    def completed(self, prompt: Prompt) -> Prompt:
        """Return a prompt with its mask read into its metadata; raise if this reward cannot score it."""
        self._present(prompt)
        return checked(self.model.config, prompt)

    def _labels(self, prompt: Prompt) -> Tensor:
        self._present(prompt)
        key = (str(prompt.metadata[wanted(self.model.config)]), bool(prompt.metadata.get("nearest")))
        if key not in self._asked:
            if len(self._asked) >= CACHED:
                self._asked.pop(next(iter(self._asked)))
            self._asked[key] = asked(self.model.config, prompt)
        return self._asked[key]

    def _present(self, prompt: Prompt) -> None:
        """Raise if a prompt lacks the mask or class to compare with."""
        key = wanted(self.model.config)
        if prompt.metadata.get(key) is None:
            raise SteerError(
                f"reward 'symmflow' compares with the prompt's {key}, and prompt {named(prompt)} has none; give one "
                f"with --{key} or in its row"
            )


def agreement(logits: Tensor, asked: Tensor) -> Tensor:
    """Return the agreement of soft labels with the requested labels, ``[N]`` in [0, 1].

    Args:
        logits: ``[N, K]`` for classes, or ``[N, K, H, W]`` for masks.
        asked: the requested labels, ``[N]`` or ``[N, H, W]``.
    """
    p = logits.softmax(dim=1)
    if asked.ndim == 1:
        return p.gather(1, asked[:, None])[:, 0]
    y = torch.nn.functional.one_hot(asked, p.shape[1]).movedim(-1, 1).to(p)
    both, either = (p * y).sum(dim=(2, 3)), (p + y - p * y).sum(dim=(2, 3))
    present = (y.sum(dim=(2, 3)) > 0).to(p)
    return (present * both / either.clamp_min(1e-6)).sum(dim=1) / present.sum(dim=1)
