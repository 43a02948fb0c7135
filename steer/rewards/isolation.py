"""Isolation of rewards: each is called on copies, and its changes to the process are undone."""

import copy
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.prompts.prompt import Prompt


def copies(samples: Any, prompts: Sequence[Prompt]) -> tuple[Any, list[Prompt]]:
    """Return copies of samples and prompts that a reward may change.

    A copy of the pixels costs little compared with a reward. Gradients flow through it to the samples.
    """
    return samples.clone() if isinstance(samples, Tensor) else samples, [copy.deepcopy(prompt) for prompt in prompts]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore at the end the state of the process: global random generators, torch's grad mode, threads, default dtype
    and deterministic flags, filters of warnings, environment variables, the working directory."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()
    grad, threads, dtype = torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_dtype()
    deterministic = _deterministic()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    filters, environment, here = list(warnings.filters), dict(os.environ), _directory()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if _deterministic() != deterministic:
                torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
            if warnings.filters != filters:
                warnings.filters[:] = filters  # type: ignore[index]
                warnings._filters_mutated()  # type: ignore[attr-defined]
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
            if here is not None and _directory() != here:
                os.chdir(here)
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_grad_enabled(grad)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)


def _directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # removed by another process
        return None


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
