"""Model families at tiny random sizes: every module here lists some in ``FAMILIES``, and all go through one suite.

A family's pipeline has the classes and the code paths of the real one; only widths and depths are small.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


def _as_they_are(latents: Tensor) -> Tensor:
    return latents


@dataclass(frozen=True)
class Family:
    """A tiny pipeline and how its stock call and a run are told the same.

    Attributes:
        name: for test ids.
        make: returns the pipeline, with the same weights at every call, in inference mode, progress bar off.
        guided: settings of a run with guidance on.
        stock: keyword arguments of the stock call that mean the same.
        plain: settings of a run with guidance off.
        stock_plain: keyword arguments that mean the same.
        negative: keyword arguments of the stock call besides ``stock`` that give it a list of two negative prompts.
        schedulers: named schedulers that stock can run too; the pipeline's own is tested always.
        stochastic: a scheduler and eta at which copies of a particle part.
        spatial: turns the stock call's latents into the run's ``[N, C, H, W]``.
        texts: two prompts, of two lengths.
        size: (width, height) in pixels, ``None`` for the pipeline's native size.
        by_row: the stock call is given each text twice, because it mixes up its masks for two images per prompt.
        backbone: attributes that the backbone's class has during the tests, such as room for shorter texts.
        fewest: steps that its schedule takes at least.
        tolerance: of latents, relative to the largest; padding to a batch's longest text costs some bits.
    """

    name: str
    make: Callable[[], Any]
    guided: dict[str, Any]
    stock: dict[str, Any]
    plain: dict[str, Any]
    stock_plain: dict[str, Any]
    negative: dict[str, Any] = field(default_factory=lambda: {"negative_prompt": ["a circle"] * 2})
    schedulers: tuple[str, ...] = ()
    stochastic: dict[str, Any] = field(default_factory=lambda: {"eta": 1.0})
    spatial: Callable[[Tensor], Tensor] = _as_they_are
    texts: tuple[str, str] = ("a red circle", "a blue square and a circle")
    size: tuple[int, int] | None = None
    by_row: bool = False
    backbone: dict[str, Any] = field(default_factory=dict)
    fewest: int = 1
    tolerance: float = 1e-5


def all_families() -> list[Family]:
    """Return the families of all modules of this package, by name."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    families = [family for module in modules for family in getattr(module, "FAMILIES", ())]
    return sorted(families, key=lambda family: family.name)


OF_ONE_CLASS = {"flux-dev-true-cfg", "flux-schnell", "pixart-alpha-sized", "sd3-shifting"}
"""Families whose pipelines have the class of another's."""


def each_class() -> list[Family]:
    """Return one family for each class of pipelines."""
    return [family for family in all_families() if family.name not in OF_ONE_CLASS]


def inference(pipe: Any) -> Any:
    """Put a pipeline into the state in which the suite uses it."""
    for part in pipe.components.values():
        if hasattr(part, "eval"):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe
