"""Isolation of rewards: each is called on copies, and its changes to the process are undone."""

import copy
import locale
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.prompts.prompt import Prompt


def copies(samples: Any, prompts: Sequence[Prompt]) -> tuple[Any, list[Prompt]]:
    """Return copies of samples and prompts that a reward may change.

    A copy of the pixels costs little compared with a reward. Gradients flow through it to the samples. The rows of one
    prompt share its copy, as they share the prompt: copying it takes 0.1 ms.
    """
    return samples.clone() if isinstance(samples, Tensor) else samples, copy.deepcopy(list(prompts))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore at the end the state of the process: global random generators, all of :data:`_SETTINGS`, standard
    descriptors, filters of warnings and environment variables.

    Modules that a reward adds to ``sys.path`` stay: it may import them later.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, numpy = random.getstate(), np.random.get_state()
    settings = [read() for read, _ in _SETTINGS]
    filters, environment = list(warnings.filters), dict(os.environ)
    # PyTorch has no call that leaves inference mode, but the end of a context does; its begin changes both of these
    inference = torch.inference_mode(torch.is_inference_mode_enabled())
    grad, threads = torch.is_grad_enabled(), torch._C._is_multithreading_enabled()
    with torch.random.fork_rng(devices=devices), _descriptors(), inference:
        torch.set_grad_enabled(grad)
        torch.autograd.set_multithreading_enabled(threads)
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


@contextmanager
def _descriptors() -> Iterator[None]:
    """Restore standard descriptors: code that silences C libraries may redirect or close them for good."""
    kept: dict[int, int] = {}
    for number in range(3):
        with suppress(OSError):  # closed
            kept[number] = os.dup(number)
    try:
        yield
    finally:
        for number, copy in kept.items():
            try:
                same = os.path.sameopenfile(number, copy)
            except OSError:
                same = False
            if not same:
                os.dup2(copy, number)
            os.close(copy)


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


_DEVICES = ("cpu", "cuda")


def _autocast() -> list[tuple[bool, torch.dtype]]:
    return [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _DEVICES]


def _set_autocast(settings: list[tuple[bool, torch.dtype]]) -> None:
    for device, (enabled, dtype) in zip(_DEVICES, settings, strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _signals() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def _set_signals(handlers: list[Any]) -> None:
    with suppress(TypeError, ValueError):  # not set by Python; only the main thread can change them
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)


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
    (_autocast, _set_autocast),
    (np.geterr, lambda modes: np.seterr(**modes)),
    (_signals, _set_signals),
    (_streams, _set_streams),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    (_directory, _enter),
]
"""How to read and set what code of others may change for the whole process."""
