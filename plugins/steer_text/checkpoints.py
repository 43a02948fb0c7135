"""Models of transformers and their tokenizers, from folders and from the hub. Their code is never run."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steer import SteerError
from steer.plugin import Source, hub, message_of, nearest, read_object

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "weights"


def known() -> dict[str, Path]:
    """Return the shipped models by name."""
    return {folder.name: folder for folder in sorted(SHIPPED.iterdir()) if (folder / "config.json").is_file()}


def load(kind: str, source: str, what: str, names: Iterable[str] = ()) -> tuple[Any, Any]:
    """Load a model for inference, in fp32, and its tokenizer.

    Args:
        kind: the class of transformers that picks the architecture, such as ``"AutoModelForMaskedLM"``.
        source: a folder or a hub id.
        what: the model as the user named it, for messages.
        names: known names, for suggestions.

    Raises:
        SteerError: if it does not exist, cannot be fetched, or is not such a model.
    """
    import torch
    import transformers

    named, known = Source(source), list(names)
    folder = named.folder
    if folder is not None:
        config = folder / "config.json"
        if not config.is_file():
            raise SteerError(f"{what}: {source} has no config.json; expected a folder of a transformers model")
        read_object(config, what)
        local = True
    elif not named.like_an_id(bare=not known):
        listed = f"a known name ({', '.join(known)}), " if known else ""
        raise SteerError(f"{what}: no such folder{nearest(source, known)}; expected {listed}a folder, or a hub id")
    else:
        local = hub.cache_only()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(named.place, local_files_only=local)
        model = getattr(transformers, kind).from_pretrained(
            named.place, local_files_only=local, use_safetensors=True, dtype=torch.float32
        )
    except Exception as error:  # many kinds: missing files, other architectures, no network
        log.debug("loading %s failed", source, exc_info=True)
        reason = message_of(error, 200)
        if folder is None and local:
            why = "the hub cannot be reached (offline)" if not hub.reachable() else "a dry run downloads nothing"
            raise SteerError(
                f"{what} is not a folder or in the hub's cache, and {why}; go online once to fetch it, or give a folder"
            ) from error
        raise SteerError(f"{what} cannot be loaded ({type(error).__name__}: {reason})") from error
    return model.eval().requires_grad_(False), tokenizer


def longest(model: Any, tokenizer: Any) -> int:
    """Return the most tokens that a model takes, including special ones; about 10³⁰ if it has no limit."""
    positions = getattr(model.config, "max_position_embeddings", None)
    # positions of RoBERTa models begin after the padding token's
    offset = 2 if "roberta" in str(getattr(model.config, "model_type", "")) else 0
    return int(min([tokenizer.model_max_length] + ([positions - offset] if positions and positions > 0 else [])))
