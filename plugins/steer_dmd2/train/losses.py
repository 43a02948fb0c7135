"""The losses of DMD2 (arXiv 2405.14867), pure: tensors in, a scalar out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distribution_matching(x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Return a loss whose gradient moves samples from the student's distribution toward the teacher's.

    The gradient of the KL divergence between the two, diffused, is a difference of scores, here written with the two
    denoisers' estimates of x0 (DMD, arXiv 2311.18828, eq. 7 and 8): ``(fake − real) / mean|x − real|``, the mean over
    each sample. The loss is ``½·mean((x − sg(x − gradient))²)``, so that its gradient by ``x`` is that, over numel.

    Args:
        x: the student's samples ``[B, …]``, with gradient.
        real: the teacher's estimate of x0 from the diffused ``x``, ``[B, …]``.
        fake: the critic's, ``[B, …]``.
    """
    with torch.no_grad():
        scale = (x - real).abs().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        target = x - torch.nan_to_num((fake - real) / scale, nan=0.0, posinf=0.0, neginf=0.0)
    return 0.5 * F.mse_loss(x, target)


def denoising(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error of a denoiser, ``[B, …]`` each; the critic learns the student's score by it.

    Args:
        weight: ``[B]``, a factor for each sample.
    """
    error = (prediction - target).square().flatten(1).mean(1)
    return (error if weight is None else weight * error).mean()


def min_snr_weight(alpha: Tensor, sigma: Tensor, clip: float, prediction_type: str = "epsilon") -> Tensor:
    """Return the weight ``[B]`` of a denoiser's squared error, which makes it min(SNR, clip) times that of x0.

    By arXiv 2303.09556, sec. 3.4, with SNR = α²/σ²: min(SNR, clip)/SNR of an error in ε, min(SNR, clip)/(SNR + 1) of
    one in v.
    """
    snr = (alpha / sigma).square()
    return snr.clamp(max=clip) / (snr + 1 if prediction_type == "v_prediction" else snr)


def adversarial_student(fake: Tensor) -> Tensor:
    """Return the non-saturating loss of the student, mean softplus(−logit) over logits of its samples."""
    return F.softplus(-fake).mean()


def adversarial_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Return the loss of the head that tells real from generated, softplus(−real) + softplus(fake)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()
