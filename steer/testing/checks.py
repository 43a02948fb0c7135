"""The contract of a reward: each check is a function of a :class:`Subject` that returns its finding."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.errors import SteerError, message_of
from steer.models.media import media_of
from steer.prompts.prompt import Prompt
from steer.registry.plugins import Plugins, manager
from steer.rewards.combinations import is_differentiable, parts_of
from steer.rewards.reward import RewardFunction
from steer.testing.gradient import gradient
from steer.testing.subject import Failed, Subject

VIDEO, FRAMES = media_of("video").name, 5
"""A modality, and the frames of the videos on which its rewards are checked."""
TOLERANCE = 1e-4
"""Largest relative difference of scores between batch sizes, which use different kernels."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check: ``status`` is ``"passed"``, ``"failed"`` or ``"skipped"``."""

    name: str
    status: str
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """All outcomes for a reward.

    Attributes:
        name: the reward's.
        checks: in the order in which they ran.
        scores: of ``samples``, to show the best and the worst; empty if scoring failed.
        samples: float ``[N, 3, H, W]``; of a reward of videos ``[N, F, 3, H, W]``.
        prompts: N prompts.
    """

    name: str
    checks: tuple[Check, ...]
    scores: tuple[float, ...]
    samples: Tensor
    prompts: tuple[Prompt, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)

    def require(self) -> Report:
        """Return the report itself if no check failed.

        Raises:
            AssertionError: listing the checks that failed.
        """
        broken = [f"{check.name}: {check.detail}" for check in self.checks if check.status == "failed"]
        if broken:
            raise AssertionError(f"reward {self.name!r} breaks its contract:\n  " + "\n  ".join(broken))
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, without the images."""
        return {
            "reward": self.name,
            "ok": self.ok,
            "checks": [{"name": c.name, "status": c.status, "detail": c.detail} for c in self.checks],
            "samples": [
                {"prompt": str(prompt), "score": score}
                for prompt, score in zip(self.prompts, self.scores, strict=False)
            ],
        }


def shape(subject: Subject) -> str:
    """One finite score per sample: float ``[N]``, for N = 1 too."""
    scores = subject.score()
    subject.score(subject.samples[:1], subject.prompts[:1])
    return f"[{len(scores)}] and [1], all finite"


def extremes(subject: Subject) -> str:
    """Finite on black, white and noise, which x0 resembles at the first steps."""
    first = subject.samples[:1]
    noise = torch.rand(first.shape, generator=torch.Generator().manual_seed(1)).to(first)
    subject.score(torch.cat([torch.zeros_like(first), torch.ones_like(first), noise]), subject.prompts[:1] * 3)
    return "black, white and noise give finite scores"


def dtype_and_device(subject: Subject) -> str:
    """The scores are floats on the samples' device."""
    with torch.no_grad():
        scores = subject.call(subject.samples.clone(), list(subject.prompts))
    if not scores.is_floating_point():
        raise Failed(f"returned {scores.dtype}, expected a float type")
    if scores.device != subject.samples.device:
        raise Failed(f"returned scores on {scores.device}, expected the samples' device {subject.samples.device}")
    return f"{str(scores.dtype).removeprefix('torch.')} on {scores.device}"


def determinism(subject: Subject) -> str:
    """The same call gives the same bits, else a steered image could not be reproduced."""
    first = subject.score()
    # steer restores the global generators after each call; in a render other code advances them in between
    random.random(), np.random.random(), torch.rand(1)
    second = subject.score()
    if not torch.equal(first, second):
        raise Failed(f"two equal calls differ by {_gap(first, second):.3g}; draw from a generator of a fixed seed")
    return "two calls are bit-equal"


def input_unchanged(subject: Subject) -> str:
    """The reward does not change samples and prompts, which the sampler and other rewards share."""
    samples, prompts = subject.samples.clone(), list(subject.prompts)
    with torch.no_grad():
        subject.call(samples, prompts)
    if not torch.equal(samples, subject.samples):
        raise Failed("the reward changed its samples in place; work on a copy")
    if prompts != list(subject.prompts):
        raise Failed("the reward changed the list of prompts; work on a copy")
    return "samples and prompts are unchanged"


def batch_invariance(subject: Subject) -> str:
    """A sample has the same score alone as in a batch."""
    alone = [subject.score(subject.samples[i : i + 1], subject.prompts[i : i + 1]) for i in range(len(subject.samples))]
    return _same(subject.score(), torch.cat(alone), "a batch and its samples one by one")


def order_invariance(subject: Subject) -> str:
    """Reordering a batch reorders its scores."""
    order = torch.arange(len(subject.samples) - 1, -1, -1)
    turned = subject.score(subject.samples[order.to(subject.samples.device)], [subject.prompts[i] for i in order])
    return _same(subject.score(), turned.flip(0), "a batch and the same batch reversed")


def row_independence(subject: Subject) -> str:
    """A score does not depend on the other samples: no statistics of the batch."""
    noise = torch.rand(subject.samples.shape, generator=torch.Generator().manual_seed(2)).to(subject.samples)
    half = len(noise) // 2
    mixed = torch.cat([subject.samples[:half], noise[half:]])
    return _same(subject.score()[:half], subject.score(mixed)[:half], "a sample beside others and beside noise")


def speed(subject: Subject) -> str:
    """Reported without a verdict."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subject.score()
        if subject.samples.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    each = 1000 * statistics.median(seconds) / len(subject.samples)
    return f"{each:.2f} ms per sample in a batch of {len(subject.samples)}"


CHECKS: tuple[Callable[[Subject], str | None], ...] = (
    shape,
    extremes,
    dtype_and_device,
    determinism,
    input_unchanged,
    batch_invariance,
    order_invariance,
    row_independence,
    gradient,
    speed,
)
"""All checks, in the order in which they run; their names are the functions'."""


def check_reward(
    reward: RewardFunction,
    samples: Tensor | None = None,
    prompts: Sequence[str] | None = None,
    *,
    name: str | None = None,
    differentiable: bool | None = None,
    device: torch.device | str = "cpu",
    batch: int = 8,
) -> Report:
    """Check a reward against its contract.

    Args:
        reward: a ``steer.Reward`` or a function of (samples, prompts).
        samples: float ``[N, 3, H, W]`` in [0, 1] to score, videos ``[N, F, 3, H, W]``; scenes of the embedded world by
            default, which move past for a reward of videos.
        prompts: N prompts.
        name: for the report; the reward's own by default.
        differentiable: whether to check its gradient; by default as the reward declares.
        device: of the samples.
        batch: number of samples in the checks; all are scored for the pictures.

    Raises:
        SteerError: if samples and prompts do not fit each other.
    """
    if samples is None:
        samples, prompts = example_samples()
        if any(getattr(part, "modality", None) == VIDEO for part in _parts(reward)):
            samples = torch.stack([samples.roll(3 * frame, dims=-1) for frame in range(FRAMES)], dim=1)
    if prompts is None or len(prompts) != len(samples) or len(samples) < 2:
        raise SteerError(f"got {len(samples)} samples and {len(prompts or ())} prompts; expected 2 or more of each")
    rows = tuple(p if isinstance(p, Prompt) else Prompt(p) for p in prompts)
    samples = samples.to(device)
    title = name or getattr(reward, "name", None) or getattr(reward, "__name__", None) or type(reward).__name__
    # spread over the set, so that it has several categories of prompts
    picked = torch.linspace(0, len(rows) - 1, min(batch, len(rows))).round().long().tolist()
    subject = Subject(
        str(title),
        reward,
        samples[picked],
        tuple(rows[i] for i in picked),
        is_differentiable(reward) if differentiable is None else differentiable,
    )
    checks = tuple(_run(check, subject) for check in CHECKS)
    return Report(subject.name, checks, _all_scores(subject, samples, rows, batch), samples.cpu(), rows)


def example_samples(plugins: Plugins | None = None) -> tuple[Tensor, list[Prompt]]:
    """Return samples with prompts: those of the first plugin that has some, else noise of a fixed seed."""
    known = (plugins or manager()).registry.entries["samples"]
    if known:
        samples, prompts = next(iter(known.values())).load()()
        return samples, list(prompts)
    noise = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return noise, [Prompt(f"a picture of {number} things") for number in range(8)]


def _parts(reward: RewardFunction) -> list[object]:
    return list(parts_of(reward)) or [reward]


def _run(check: Callable[[Subject], str | None], subject: Subject) -> Check:
    name = check.__name__.replace("_", " ")
    try:
        detail = check(subject)
    except Failed as failure:
        return Check(name, "failed", str(failure))
    except Exception as error:  # code of a plugin author: any exception is a failure of the reward
        return Check(name, "failed", f"{type(error).__name__}: {message_of(error, 200)}")
    return Check(name, "skipped", "not declared differentiable") if detail is None else Check(name, "passed", detail)


def _all_scores(subject: Subject, samples: Tensor, prompts: Sequence[Prompt], batch: int) -> tuple[float, ...]:
    try:
        parts = [subject.score(samples[i : i + batch], prompts[i : i + batch]) for i in range(0, len(prompts), batch)]
    except Failed:
        return ()
    return tuple(torch.cat(parts).tolist())


def _gap(first: Tensor, second: Tensor) -> float:
    return float((first.cpu().double() - second.cpu().double()).abs().max())


def _same(first: Tensor, second: Tensor, what: str) -> str:
    scale = max(1e-3, float(first.cpu().double().abs().max()))
    gap = _gap(first, second)
    if gap > TOLERANCE * scale:
        raise Failed(f"{what} differ by {gap:.3g}, expected at most {TOLERANCE * scale:.1g}")
    return f"{what} agree to {gap:.1g}"
