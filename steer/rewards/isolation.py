"""Isolation of rewards: each is called on copies, and its changes to the process are undone."""

import copy
import locale
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
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
    """Restore at the end the state of the process: global random generators, all of :data:`_SETTINGS`, filters of
    warnings and environment variables.

    Modules that a reward adds to ``sys.path`` stay: it may import them later.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()
    settings = [read() for read, _ in _SETTINGS]
    filters, environment = list(warnings.filters), dict(os.environ)
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if warnings.filters != filters:
                warnings.filters[:] = filters  # type: ignore[index]
                warnings._filters_mutated()  # type: ignore[attr-defined]
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
            random.setstate(python)
            np.random.set_state(numpy)
            for (read, write), value in zip(_SETTINGS, settings, strict=True):
                if read() != value:
                    write(value)


def _directory() -> str | None:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # removed by another process
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _cudnn() -> tuple[bool, bool]:
    return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark


def _set_cudnn(flags: tuple[bool, bool]) -> None:
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


def _streams() -> tuple[Any, Any, Any]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_streams(streams: tuple[Any, Any, Any]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (_deterministic, lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])),
    (_cudnn, _set_cudnn),
    (_streams, _set_streams),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    (_directory, _enter),
]
"""How to read and set what code of others may change for the whole process."""
