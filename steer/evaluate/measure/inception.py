"""FID (Heusel et al. 2017, arXiv 1706.08500) and KID (Bińkowski et al. 2018, arXiv 1801.01401), by torch-fidelity.

Its network and its arithmetic are used as they are. The weights are read without running code.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steer.errors import SteerError
from steer.evaluate.measure.images import Advance, batches
from steer.evaluate.measure.weights import file_of
from steer.models.downloads.checkpoints import read_tensors
from steer.registry.declarations import Weights

INCEPTION = Weights(
    "toshas/torch-fidelity", "weights-inception-2015-12-05-6726825d.pth", size=95_628_000, license="Apache-2.0",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)  # fmt: skip
"""The network of FID, converted from the original by the authors of torch-fidelity."""
FEATURES = 2048
SUBSETS, SUBSET = 100, 1000
"""Of KID: draws of so many images from either side."""

Extractor = Callable[[Tensor], tuple[Tensor, ...]]


def load_inception(given: str | None, device: torch.device) -> Any:
    """Return the network, which maps uint8 ``[N, 3, H, W]`` to features ``[N, 2048]``.

    Raises:
        SteerError: without torch-fidelity, or if the weights cannot be read or do not fit.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise SteerError("FID and KID need torch-fidelity: pip install 'steer-diffusion[measure]'") from None
    file = file_of(INCEPTION, given, measure="fid", option="--weights")
    with tempfile.TemporaryDirectory() as place:
        safe = Path(place) / "weights.pth"  # torch-fidelity would run code that a file holds
        torch.save(read_tensors(file), safe)
        try:
            network = FeatureExtractorInceptionV3(
                "inception", [str(FEATURES)], feature_extractor_weights_path=str(safe)
            )
        except RuntimeError as error:  # other names or shapes
            raise SteerError(f"the weights in {file} are not those of {INCEPTION.label}: {_first(error)}") from None
    return network.to(device)


def features(network: Extractor, paths: Sequence[Path], batch: int, advance: Advance, device: torch.device) -> Tensor:
    """Return the features ``[N, 2048]`` of images, in fp32 on the CPU."""
    found = [network(pixels.to(device))[0].cpu() for _, pixels in batches(paths, batch, advance)]
    return torch.cat(found)


Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean ``[D]`` and covariance ``[D, D]`` of features."""


def statistics_of(found: Tensor) -> Statistics:
    """Return mean and covariance of features ``[N, D]``, two or more rows.

    Raises:
        SteerError: for fewer.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics

    if len(found) < 2:
        raise SteerError(f"got {len(found)} image, and FID needs a covariance; expected two or more, better thousands")
    made = fid_features_to_statistics(found)
    return made["mu"], made["sigma"]


def read_statistics(file: Path) -> Statistics:
    """Read published statistics: a ``.npz`` with ``mu`` and ``sigma``.

    Raises:
        SteerError: if it holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            mean, covariance = (np.asarray(data[name], dtype=np.float64) for name in ("mu", "sigma"))
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
            raise ValueError(f"shapes {mean.shape} and {covariance.shape}")
    except (OSError, ValueError, KeyError) as error:
        raise SteerError(
            f"reference {file} is no file of statistics ({_first(error)}); expected a .npz with mu and sigma of "
            f"{FEATURES} features"
        ) from None
    return mean, covariance


def fid(first: Statistics, second: Statistics) -> float:
    """Return the Fréchet distance of two Gaussians."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    both = [{"mu": mean.astype(np.float64), "sigma": covariance} for mean, covariance in (first, second)]
    return float(fid_statistics_to_metric(*both, False)[KEY_METRIC_FID])


def kid(first: Tensor, second: Tensor, subset: int | None = None) -> tuple[float, float]:
    """Return mean and standard deviation over subsets of the kernel distance of features.

    Raises:
        SteerError: for fewer images than two, or than the subset asked for.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    fewest = min(len(first), len(second))
    size = min(SUBSET, fewest) if subset is None else subset
    if not 2 <= size <= fewest:
        raise SteerError(f"a subset of {size} images cannot be drawn from {fewest}; expected 2..{fewest}")
    found = kid_features_to_metric(first, second, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False)
    return float(found[KEY_METRIC_KID_MEAN]), float(found[KEY_METRIC_KID_STD])


def _first(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
