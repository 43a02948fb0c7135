"""The losses of DMD2 (arXiv 2405.14867) as pure functions: tensors in, a scalar out."""

import torch
import torch.nn.functional as F
from torch import Tensor


def distribution_matching(x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Return a loss whose gradient moves samples from the student's distribution toward the teacher's.

    The gradient of the KL divergence between the two diffused distributions is a difference of scores. Written with the
    two denoisers' estimates of x0 (DMD, arXiv 2311.18828, eq. 7 and 8), it is ``(fake − real) / mean|x − real|``, with
    the mean over each sample. The loss is ``½·mean((x − sg(x − gradient))²)``; its gradient by ``x`` is that difference
    divided by numel.

    Args:
        x: the student's samples ``[B, …]``, with gradient.
        real: the teacher's estimate of x0 from the diffused ``x``, ``[B, …]``.
        fake: the critic's estimate, ``[B, …]``.
    """
    with torch.no_grad():
        scale = (x - real).abs().mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        target = x - torch.nan_to_num((fake - real) / scale, nan=0.0, posinf=0.0, neginf=0.0)
    return 0.5 * F.mse_loss(x, target)


def known_gradient(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar of a known value whose gradient by ``x`` is known, to be added to a loss."""
    return value.detach() + ((x - x.detach()) * gradient).sum()


def denoising(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean squared error of a denoiser, ``[B, …]`` each; the critic learns the student's score with it.

    Args:
        weight: ``[B]``, a factor per sample.
    """
    error = (prediction - target).square().flatten(1).mean(1)
    return (error if weight is None else weight * error).mean()


def min_snr_weight(alpha: Tensor, sigma: Tensor, clip: float, prediction_type: str = "epsilon") -> Tensor:
    """Return the weight ``[B]`` that turns a denoiser's squared error into min(SNR, clip) times that of x0.

    From arXiv 2303.09556, sec. 3.4, with SNR = α²/σ²: min(SNR, clip)/SNR for an error in ε, min(SNR, clip)/(SNR + 1)
    for an error in v. An error in a flow's velocity is one in x0 times σ: min(SNR, clip)·σ².
    """
    snr = (alpha / sigma).square()
    if prediction_type == "flow":
        return snr.clamp(max=clip) * sigma.square()
    return snr.clamp(max=clip) / (snr + 1 if prediction_type == "v_prediction" else snr)


def adversarial_student(fake: Tensor) -> Tensor:
    """Return the student's non-saturating loss: the mean of softplus(−logit) over the logits of its samples."""
    return F.softplus(-fake).mean()


def adversarial_critic(real: Tensor, *fakes: Tensor) -> Tensor:
    """Return the loss of a network that separates real from generated samples: softplus(−real) + softplus(fake).

    Several kinds of fakes together weigh as much as one.
    """
    return F.softplus(-real).mean() + torch.stack([F.softplus(fake).mean() for fake in fakes]).mean()
