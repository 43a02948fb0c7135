"""Models of transformers from folders: nothing is fetched, no code of a repository runs, and the weights must fit."""

from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, message_of


def pretrained(
    model: str, processor: str, folder: Path, what: str, *, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    """Load a model and its processor, frozen and in inference mode.

    Args:
        model: name of its class in transformers; an ``Auto`` class reads the configuration.
        processor: name of the processor's class.
        folder: in transformers' format.
        what: it is expected to hold, for messages, such as ``"a detector"``.
        device: to compute on.
        dtype: of the weights.

    Returns:
        Model and processor.

    Raises:
        SteerError: naming the folder, if transformers cannot load it, or weights are missing or of another shape.
    """
    import transformers

    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        made = getattr(transformers, processor).from_pretrained(folder, **safe)
        loaded, report = getattr(transformers, model).from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **safe
        )
    except Exception as error:  # transformers raises errors of many classes
        reason = message_of(error, 200)
        raise SteerError(
            f"{folder} is not {what} that transformers can load ({type(error).__name__}: {reason})"
        ) from error
    problems = [
        f"{len(report[kind])} {said}: {', '.join(sorted(str(_name(key)) for key in report[kind])[:3])}"
        for kind, said in (("missing_keys", "missing"), ("mismatched_keys", "of another shape"))
        if report.get(kind)
    ]
    if problems:
        raise SteerError(f"the weights in {folder} do not fit the model: {'; '.join(problems)}")
    return loaded.to(device).eval().requires_grad_(False), made


def _name(key: Any) -> Any:
    """Return a weight's name; those of another shape come with their shapes."""
    return key[0] if isinstance(key, tuple) else key
