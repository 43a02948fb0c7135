"""The networks that a pipeline calls in its loop: counted, and skipped where only what follows the loop is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BESIDE = ("ControlNet", "Adapter", "Connector")
"""In the names of networks that are called beside the denoiser."""


def networks_of(pipe: Any) -> dict[str, nn.Module]:
    """Return a pipeline's networks of diffusers, by their names there: denoisers, ControlNets, adapters; no decoder."""
    from diffusers.models.modeling_utils import ModelMixin

    found: dict[str, nn.Module] = {}
    for name, part in pipe.components.items():
        parts = part if isinstance(part, list | tuple) else [part]
        for number, one in enumerate(parts):
            if isinstance(getattr(one, "_orig_mod", one), ModelMixin) and not hasattr(one, "decode"):
                found[name if one is part else f"{name} {number}"] = one
    return found


def denoisers_of(pipe: Any) -> dict[str, nn.Module]:
    """Return those of a pipeline's networks that denoise."""
    return {
        name: network
        for name, network in networks_of(pipe).items()
        if not any(word in type(network).__name__ for word in BESIDE) and "encoder" not in name
    }


class Watched:
    """What a pipeline's networks were asked and answered.

    Attributes:
        rows: of the denoisers' batches, in all.
        answers: the last answer of each network, without its content.
    """

    def __init__(self, pipe: Any) -> None:
        self._networks, self._denoisers = networks_of(pipe), denoisers_of(pipe)
        self.rows = 0
        self.answers: dict[str, Any] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Return a context in which calls are noted."""
        with ExitStack() as stack:
            for name, network in self._networks.items():
                hook = network.register_forward_hook(self._note(name), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _note(self, name: str) -> Any:
        def note(module: nn.Module, arguments: Any, keywords: Mapping[str, Any], answer: Any) -> None:
            if name in self._denoisers:
                self.rows += _rows([*arguments, *keywords.values()])
            if name not in self.answers:
                self.answers[name] = hollow(answer)

        return note


def _rows(arguments: list[Any]) -> int:
    for one in arguments:
        if isinstance(one, Tensor) and one.ndim > 1:
            return len(one)
        if isinstance(one, list) and one and isinstance(one[0], Tensor):
            return len(one)
    return 1


def hollow(answer: Any) -> Any:
    """Return an answer with zeros for its tensors, which take no memory."""
    if isinstance(answer, Tensor):
        return torch.zeros((), dtype=answer.dtype, device=answer.device).expand(answer.shape)
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        fields = {f.name: hollow(getattr(answer, f.name)) for f in dataclasses.fields(answer)}
        return type(answer)(**fields)
    if isinstance(answer, list | tuple):
        return type(answer)(hollow(part) for part in answer)
    if isinstance(answer, dict):
        return {name: hollow(part) for name, part in answer.items()}
    return answer


@contextmanager
def skipped(pipe: Any, answers: Mapping[str, Any]) -> Iterator[None]:
    """Return a context in which networks give known answers at once."""
    with ExitStack() as stack:
        for name, network in networks_of(pipe).items():
            if name in answers:
                answer = answers[name]
                stack.enter_context(replaced_attribute(network, "forward", lambda *_, _answer=answer, **__: _answer))
                stack.enter_context(replaced_attribute(network, "_compiled_call_impl", None))
        yield


@contextmanager
def replaced_attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    """Return a context in which a module has an attribute of its own; after it, what it had before.

    Args:
        module: whose attribute it is; torch's registry of parameters and modules is not asked.
        name: of the attribute, such as ``"forward"``.
        value: within the context.
    """
    own = vars(module)
    there, before = name in own, own.get(name)
    own[name] = value
    try:
        yield
    finally:
        if there:
            own[name] = before
        else:
            del own[name]
