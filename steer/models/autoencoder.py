"""An autoencoder in place of the model's own: from a folder, a hub id, or a file as Civitai passes them on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError, cause_of, message_of
from steer.models.downloads import weights
from steer.models.downloads.checkpoints import check_ending
from steer.models.downloads.source import Source
from steer.registry.declarations import Repository
from steer.settings.strict_json import object_in


def load_vae(name: str, kind: str, own: Path, dtype: torch.dtype) -> Any:
    """Load an autoencoder.

    Args:
        name: a folder, a file or a hub id.
        kind: the class of the model's own.
        own: the folder with the configuration of the model's own, which serves for a file.
        dtype: of the weights.

    Raises:
        SteerError: if there is none, or it is not for the model's latents.
    """
    import diffusers

    source = Source(name)
    loaded = getattr(diffusers, kind)
    try:
        if source.path is not None and source.path.is_file():
            check_ending(source.path, "vae")
            if not hasattr(loaded, "from_single_file"):
                raise SteerError(f"vae {name!r}: diffusers reads no {kind} from one file; give a folder instead")
            vae = loaded.from_single_file(
                str(source.path), config=str(own), torch_dtype=dtype, local_files_only=True, subfolder=None
            )
        else:
            folder = _folder(source, name)
            found = object_in(folder / "config.json").get("_class_name")
            if found != kind:
                raise SteerError(
                    f"vae {name!r} is {f'a {found}' if found else 'no model of diffusers'}, expected {kind}"
                )
            vae = loaded.from_pretrained(str(folder), torch_dtype=dtype)
    except SteerError:
        raise
    except OSError as error:
        raise SteerError(f"vae {name!r} cannot be read: {cause_of(error)}") from error
    except Exception as error:  # foreign tensors are found by a dozen kinds of errors
        raise SteerError(f"vae {name!r} is no {kind} like the model's: {message_of(error)}") from error
    lacking = [tensor for tensor, value in vae.named_parameters() if value.is_meta]
    if lacking:
        raise SteerError(
            f"vae {name!r} is no {kind} like the model's: it lacks {len(lacking)} tensors ({lacking[0]}, …)"
        )
    _check_latents(name, vae, object_in(own / "config.json"))
    return vae.eval()


def _folder(source: Source, name: str) -> Path:
    """Return the folder of an autoencoder, of a hub id or in a pipeline's folder too."""
    if source.folder is None and not source.like_an_id():
        hint = f"; to decode in less memory, give --vae-memory {name}" if name in ("slicing", "tiling") else ""
        raise SteerError(f"vae {name!r} does not exist; expected a file, a folder with config.json, or a hub id{hint}")
    folder = source.folder or weights.locate(Repository(source.name, option=""), owner=name)
    return folder / "vae" if (folder / "model_index.json").is_file() else folder


def _check_latents(name: str, vae: Any, own: Mapping[str, Any]) -> None:
    """Raise if an autoencoder is for latents of other channels, size or scale than the model's own."""
    config, defaults = vae.config, inspect.signature(type(vae).__init__).parameters
    for key, what in (("latent_channels", "channels"), ("z_dim", "channels"), ("block_out_channels", "levels")):
        here, there = config.get(key), own.get(key)
        if here is None or there is None:
            continue
        counts = [len(value) if isinstance(value, (list, tuple)) else value for value in (here, there)]
        if counts[0] != counts[1]:
            raise SteerError(f"vae {name!r} has latents of {counts[0]} {what}, the model needs {counts[1]}")
    for key in ("scaling_factor", "shift_factor"):  # SD and SDXL, or SD3 and Flux, have latents of the same shape
        here = config.get(key) or 0.0
        there = own.get(key, defaults[key].default if key in defaults else None) or 0.0
        if here != there:
            raise SteerError(
                f"vae {name!r} has latents with {key} {here:g}, the model needs {there:g}; it is for another family"
            )
