"""Model folders, looked through before anything of them is loaded: what is missing, damaged or foreign is named."""

import importlib.util
import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.models.downloads.files import PREFERRED, variants_of, weights_file, weights_of
from steer.models.downloads.hub import UNUSED
from steer.settings.strict_json import object_in

NOT_LOADED = (*UNUSED, "feature_extractor", "image_encoder")
"""Parts that no family here uses."""
CHANNELS = {5: "depth-to-image", 7: "an upscaler", 8: "InstructPix2Pix", 9: "inpainting"}
"""What a UNet over latents of four channels was made for, by the channels that it takes."""
POINTER = b"version https://git-lfs.github.com"
AGAIN = "fetch or copy it again"


def check_place(path: Path, name: str) -> None:
    """Raise unless a file or folder is a whole diffusers pipeline, saying what it is instead.

    Raises:
        SteerError: with the remedy.
    """
    expected = "expected a folder in diffusers format (with model_index.json)"
    if path.is_file():
        raise SteerError(f"model {name!r} is a file; {expected}")
    if (path / "model_index.json").is_file():
        return
    if (path.parent / "model_index.json").is_file():
        raise SteerError(f"model folder {name!r} is a part of the pipeline in {path.parent}; give that folder")
    within = sorted(path.glob("snapshots/*/model_index.json")) or sorted(path.glob("*/model_index.json"))
    if within:
        raise SteerError(f"model folder {name!r} has no model_index.json; the pipeline is in {within[-1].parent}")
    raise SteerError(f"model folder {name!r} has no model_index.json; {_what_is(path)}{expected}")


def _what_is(folder: Path) -> str:
    """Say what a folder holds that is no pipeline, with the way to use it."""
    if (folder / "adapter_config.json").is_file() or any(folder.glob("*lora*.safetensors")):
        return "it holds a LoRA: give it as --lora beside the --model that it was made for; "
    config = object_in(folder / "config.json")
    kind = str(config.get("_class_name", ""))
    if "ControlNet" in kind or "Adapter" in kind:
        part = "controlnet" if "ControlNet" in kind else "adapter"
        return (
            f"it holds a {kind}: give it as --part {part}=FOLDER beside the --model that it was made for and the "
            "--pipeline that takes both; "
        )
    if kind:
        return f"it holds a {kind} alone, one part of a pipeline; "
    if "architectures" in config or "model_type" in config:
        named = config.get("architectures") or [config.get("model_type")]
        return f"it holds a model of transformers ({named[0]}), one part of a pipeline or another kind of model; "
    return ""


def check_folder(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    needed: Mapping[str, tuple[str, ...]],
    taken: Collection[str],
    without: Collection[str] = (),
    *,
    fit: bool = True,
) -> None:
    """Raise for a pipeline folder with a part missing, damaged or foreign.

    Args:
        folder: with ``model_index.json``.
        name: the model's, for messages.
        config: what ``model_index.json`` holds.
        needed: the parts without which nothing runs, and the classes that each may be; none for any.
        taken: all that the pipeline's class takes.
        without: parts whose weights come from elsewhere.
        fit: whether the denoiser must take latents and texts alone.

    Raises:
        SteerError: naming the part and the file.
    """
    for part, classes in needed.items():
        entry = config.get(part)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] is None:
            raise SteerError(
                f"model {name!r} has no {part}, without which {config.get('_class_name')} cannot run; name one by "
                f"--part {part}=ID|FOLDER, or save the pipeline with all its parts"
            )
        if classes and entry[1] not in classes:
            raise SteerError(f"model {name!r}: its {part} is a {entry[1]}, expected {' or '.join(classes)}")
    parts = {
        part: entry
        for part, entry in config.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
    }
    strange = [part for part in parts if part not in taken and not part.startswith("_")]
    if strange:
        raise SteerError(
            f"model {name!r} has parts that {config.get('_class_name')} does not take: {', '.join(strange)}; correct "
            "_class_name in model_index.json"
        )
    for part, entry in parts.items():
        if part not in NOT_LOADED:
            check_part(folder / part, f"model {name!r}", str(entry[1]), weights=part not in without)
    if fit:
        check_fit(name, {part: object_in(folder / part / "config.json") for part in config if (folder / part).is_dir()})


def check_fit(name: str, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if the denoiser of a pipeline is made for other inputs than latents and texts as its own parts make them.

    Args:
        name: the model's, for messages.
        configs: of the parts, by name.

    Raises:
        SteerError: saying what it seems to be.
    """
    unet, vae = configs.get("unet", {}), configs.get("vae", {})
    denoiser = unet or configs.get("transformer", {})
    taken, latents = denoiser.get("in_channels"), vae.get("latent_channels", vae.get("z_dim"))
    patches = (1,) if unet else (1, 4)  # a transformer may count the channels of patches of 2×2
    if isinstance(taken, int) and isinstance(latents, int) and taken not in [latents * patch for patch in patches]:
        guess = CHANNELS.get(taken, "another task") if unet else "another task"
        raise SteerError(
            f"model {name!r} is no text-to-image model: its denoiser takes {taken} channels, latents have {latents} "
            f"(it seems to be for {guess}); load it into the class of that task by --pipeline, such as "
            "StableDiffusionInpaintPipeline"
        )
    widths = [configs[part].get("hidden_size") for part in ("text_encoder", "text_encoder_2") if configs.get(part)]
    width = unet.get("cross_attention_dim")
    known = [number for number in widths if isinstance(number, int)]
    told = isinstance(width, int) and not unet.get("encoder_hid_dim") and known and len(known) == len(widths)
    if told and sum(known) != width:
        raise SteerError(
            f"model {name!r}: its UNet takes texts {width} wide, its text encoders give {sum(known)}; they are of two "
            "models: take all parts from one, or correct _class_name in model_index.json"
        )


def variant_of(folder: Path, name: str, config: Mapping[str, Any], asked: str | None) -> str | None:
    """Return the variant by which ``from_pretrained`` finds the weights of all parts; ``None`` for plain ones.

    Raises:
        SteerError: if no part has the variant that was asked for, or no one variant serves.
    """
    parts = [folder / part for part, entry in config.items() if isinstance(entry, list) and part not in NOT_LOADED]
    there = {
        part.name: variants
        for part in parts
        if part.is_dir() and (variants := variants_of(file.name for file in part.iterdir()))
    }
    every = set().union(*there.values()) - {""}
    if asked is not None:
        if asked not in every:
            raise SteerError(
                f"model {name!r} has no variant {asked!r}; it has {', '.join(sorted(every)) or 'none'}: drop --variant"
            )
        return asked
    without = [variants for variants in there.values() if "" not in variants]
    if not without:
        return None
    common = set.intersection(*without)
    if not common:
        listing = "; ".join(f"{part}: {', '.join(sorted(there[part]))}" for part in there if "" not in there[part])
        raise SteerError(f"model {name!r} has its parts in several variants alone ({listing}); {AGAIN} in one")
    return next((variant for variant in PREFERRED if variant in common), sorted(common)[0])


def check_part(folder: Path, name: str, kind: str, *, weights: bool) -> None:
    """Raise for the folder of one part that is missing, damaged or foreign.

    Args:
        folder: of the part.
        name: of what it is a part of, for messages.
        kind: its class.
        weights: whether its weights are needed.

    Raises:
        SteerError: naming the file.
    """
    part = folder.name
    if not folder.is_dir():
        raise SteerError(f"{name} has no folder {part}/ for its {part}; {AGAIN}, or take it from the original model")
    for file in folder.iterdir():
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER):
            raise SteerError(
                f"{name}: {part}/{file.name} is a pointer of git-lfs and not the file; run `git lfs pull` in the folder"
            )
    names = [file.name for file in folder.iterdir()]
    if "Tokenizer" in kind:
        _check_tokenizer(names, name, part)
    elif "Scheduler" in kind or "Processor" in kind or "FeatureExtractor" in kind:
        if not any(one.endswith(".json") for one in names):
            raise SteerError(f"{name}: {part}/ has no configuration; {AGAIN}")
    else:
        if "config.json" not in names:
            raise SteerError(f"{name}: {part}/ has no config.json; {AGAIN}")
        if weights:
            _check_weights(folder, f"{name}: {part}/")


def _check_tokenizer(names: list[str], name: str, part: str) -> None:
    pieces = [one for one in names if one.endswith(".model")]
    if not pieces and not {"tokenizer.json", "vocab.json", "vocab.txt"} & set(names):
        raise SteerError(f"{name}: {part}/ has no vocabulary (tokenizer.json, vocab.json or spiece.model); {AGAIN}")
    if pieces and "tokenizer.json" not in names and importlib.util.find_spec("sentencepiece") is None:
        raise SteerError(f"{name}: {part}/{pieces[0]} is read by the package sentencepiece: pip install sentencepiece")


def _check_weights(folder: Path, place: str) -> None:
    names = [file.name for file in folder.iterdir()]
    variants = variants_of(names)
    if not variants:
        others = [one for one in names if one.endswith((".safetensors", ".bin", ".msgpack", ".h5", ".onnx"))]
        found = f"; {', '.join(sorted(others)[:3])} is nothing that diffusers reads" if others else ""
        raise SteerError(f"{place} has no weights{found}; {AGAIN}")
    for variant in variants:
        chosen = weights_of(names, variant)
        missing = _missing(folder, names, chosen)
        if missing:
            raise SteerError(f"{place} lacks {', '.join(missing[:3])}, shards of its weights; {AGAIN}")
        for one in chosen:
            problem = _damage(folder / one)
            if problem:
                raise SteerError(f"{place}{one} is damaged ({problem}); {AGAIN}")


def _missing(folder: Path, names: list[str], chosen: list[str]) -> list[str]:
    """Return the shards that the names or the index of a part's weights tell of and that are not there."""
    wanted: set[str] = set()
    for index in (one for one in names if ".index" in one and one.endswith(".json")):
        listed = object_in(folder / index).get("weight_map")
        shards = set(map(str, listed.values())) if isinstance(listed, dict) else set()
        # an index beside whole weights, or one of another variant, is not read
        if any(shard in chosen for shard in shards) or not chosen:
            wanted |= shards
    files = [file for file in map(weights_file, chosen) if file is not None]
    most = max((file.shards for file in files), default=1)
    if not wanted and len(files) < most:
        return [f"{most - len(files)} of {most} files"]
    return sorted(wanted - set(names))


def _damage(file: Path) -> str | None:
    """Return what is wrong with a file of safetensors by its header and its length, if anything is."""
    if file.suffix != ".safetensors":
        return None
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, 100_000_000):
                return "it is no safetensors file"
            header = json.loads(stream.read(length))
        end = max((value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"), default=0)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "it is no safetensors file"
    whole = 8 + length + int(end)
    return None if size == whole else f"{size} bytes, expected {whole}"


def class_of(folder: Path, part: str) -> str:
    """Return the class of a part of a pipeline by the index of its folder; empty if it has none."""
    entry = object_in(folder / "model_index.json").get(part)
    return str(entry[1]) if isinstance(entry, list) and len(entry) == 2 and entry[1] else ""
