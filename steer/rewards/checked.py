"""A reward is called on copies, in batches that fit, and its scores are checked."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steer.errors import RewardError, SteerError, message_of
from steer.models.device import out_of_memory
from steer.models.room import in_equal_batches, scored_at_once
from steer.prompts.prompt import Prompt
from steer.rewards.frames import frames_of
from steer.rewards.isolation import copies, undisturbed
from steer.rewards.reward import Reward, RewardFunction

log = logging.getLogger(__name__)


def checked(
    name: str,
    reward: RewardFunction,
    samples: Any,
    prompts: Sequence[Prompt],
    *,
    step: int | None = None,
    details: list[dict[str, Any]] | None = None,
) -> Tensor:
    """Call a reward on copies of the samples, on a GPU in batches of its own, and check its scores: float ``[N]``,
    finite.

    Args:
        name: of the reward, for messages.
        reward: to call.
        samples: N samples.
        prompts: N prompts.
        step: of the sampling, for messages.
        details: gets what each score comes from (:meth:`Reward.explained`).

    Raises:
        RewardError: naming the reward, the prompt and the step. The traceback of a reward that raises goes to the log.
            A ``SteerError`` of the reward passes unchanged.
    """
    where = "on the final samples" if step is None else f"at step {step}"

    def batched(part: Any) -> Tensor:
        def call(some: Any, rows: Sequence[int]) -> Tensor:
            return _called(name, reward, some, [prompts[row] for row in rows], where, told)

        most = scored_at_once(part)
        if most is None or len(prompts) <= most:
            return _called(name, reward, part, prompts, where, told)
        scores: Tensor = in_equal_batches(call, part, most)
        return scores

    scores: Tensor | None = None
    told: list[dict[str, Any]] | None = None
    try:
        if isinstance(reward, Reward):
            reward.ready()
        frames = frames_of(reward, samples)
        told = details if frames is None else None  # details are of images
        scores = batched(samples) if frames is None else frames.scores(samples, batched)
    finally:
        # a gradient still has to pass its weights
        if isinstance(reward, Reward) and reward.waits and (scores is None or not scores.requires_grad):
            reward.park()
    if details is not None:
        del details[len(prompts) :]  # of copies that filled a batch
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise RewardError(
            f"reward {name!r} returned {scores[row].item()} for prompt {_short(prompts[row])!r} ({where}); "
            "a score must be finite"
        )
    return scores


def _called(
    name: str,
    reward: RewardFunction,
    samples: Any,
    prompts: Sequence[Prompt],
    where: str,
    details: list[dict[str, Any]] | None = None,
) -> Tensor:
    """Call a reward on copies of the samples; return its scores as real floats ``[N]``."""
    try:
        with undisturbed():
            if details is not None and isinstance(reward, Reward):
                scores, found = reward.explained(*copies(samples, prompts))
                details += found
            else:
                scores = reward(*copies(samples, prompts))
    except (SteerError, KeyboardInterrupt):
        raise
    except BaseException as error:  # such as SystemExit, or the CancelledError of an asynchronous client
        if out_of_memory(error):
            raise
        log.debug("reward %s raised", name, exc_info=True)
        raise RewardError(
            f"reward {name!r} raised {type(error).__name__}: {message_of(error)} ({where}, prompts "
            f"{_some(prompts)}); its traceback is in the log (--log FILE)"
        ) from error
    count = len(prompts)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(
            f"reward {name!r} returned {got}, expected a tensor of shape ({count},), one score per sample ({where}, "
            f"prompts {_some(prompts)})"
        )
    if scores.is_complex():
        raise RewardError(f"reward {name!r} returned complex numbers ({where}); a score must be real")
    return scores if scores.is_floating_point() else scores.float()


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _some(prompts: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(prompts))
    rest = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return f"{_short(distinct[0])!r}{rest}"
