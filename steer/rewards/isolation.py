"""Isolation of rewards: each is called on copies, and its changes to the process are undone."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.prompts.prompt import Prompt


def copies(samples: Any, prompts: Sequence[Prompt]) -> tuple[Any, list[Prompt]]:
    """Return copies of samples and prompts that a reward may change.

    A copy of the pixels costs little compared with a reward. Gradients flow through it to the samples.
    """
    return samples.clone() if isinstance(samples, Tensor) else samples, list(prompts)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore at the end the state of the process: global random generators, torch's grad mode, number of threads and
    default dtype."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()
    grad, threads, dtype = torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_dtype()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_grad_enabled(grad)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
