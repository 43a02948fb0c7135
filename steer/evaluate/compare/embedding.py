"""The spread of images: distances between their CLIP embeddings."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steer.errors import SteerError, message_of, unknown
from steer.registry.plugins import Plugins

Floats = NDArray[np.float64]
Embed = Callable[[Tensor], Floats]


def load_embedding(name: str, plugins: Plugins, device: torch.device) -> Embed:
    """Return a function of images ``[N, 3, H, W]`` in [0, 1] to unit embeddings ``[N, D]``.

    Args:
        name: a CLIP that a plugin brings (``shapes``), or ``ARCHITECTURE/PRETRAINED`` of open_clip.
        plugins: the plugins to look it up in.

    Raises:
        SteerError: if there is none of that name, or it cannot be loaded.
    """
    import open_clip

    known = plugins.registry.clips
    architecture, slash, tag = name.partition("/")
    try:
        if name in known:
            model, transform = open_clip.create_model_from_pretrained(f"local-dir:{known[name].load()()}")
        elif slash:
            model, transform = open_clip.create_model_from_pretrained(architecture, pretrained=tag)
        else:
            raise unknown("embedding", name, known)
    except (OSError, RuntimeError, ValueError) as error:
        reason = message_of(error)
        raise SteerError(f"embedding {name!r} cannot be loaded ({reason}); name another with --embed") from None
    model = model.eval().requires_grad_(False).to(device)
    size = model.visual.image_size
    size = (size, size) if isinstance(size, int) else tuple(size)
    normalize = transform.transforms[-1]
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (normalize.mean, normalize.std))

    def embed(images: Tensor) -> Floats:
        with torch.no_grad():
            images = images.to(device)
            if tuple(images.shape[2:]) != size:
                images = torch.nn.functional.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
            found: Floats = model.encode_image((images - mean) / std, normalize=True).cpu().double().numpy()
        return found

    return embed


def spread(embeddings: Floats) -> float | None:
    """Return the mean of 1 − cosine over all pairs of unit embeddings ``[N, D]``; ``None`` for fewer than two."""
    count = len(embeddings)
    if count < 2:
        return None
    # |Σe|² = N + Σ_{i≠j} e_i·e_j: no N × N table
    total = float(np.square(embeddings.sum(axis=0)).sum())
    return 1 - (total - count) / (count * (count - 1))
