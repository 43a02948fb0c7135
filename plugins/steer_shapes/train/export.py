"""Write trained models as folders that diffusers and open_clip load."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file
from torch import nn

from steer.plugin import json_text
from steer.training import replaced_folder

from . import clip, t2i, t2v
from . import tokenizer as tokenizers

DEFAULTS = {"steps": 30, "guidance_scale": 4.0}
"""Default settings for sampling the model."""


def export_pipeline(vae: AutoencoderKL, modules: nn.ModuleDict, folder: Path) -> Path:
    """Write a StableDiffusionPipeline in fp16. The modules are converted in place."""
    pipe = t2i.pipeline(vae, modules).to(dtype=torch.float16)
    with replaced_folder(folder) as place:
        pipe.save_pretrained(place, safe_serialization=True)
        _load_in_fp32(place / "text_encoder")
        _write_plain_tokenizer(place / "tokenizer")
        # steer's defaults for this model; diffusers ignores the file
        (place / "steer.json").write_text(json_text(DEFAULTS) + "\n", encoding="utf-8")
        if (folder / "preview").is_dir():  # that of the same autoencoder
            shutil.copytree(folder / "preview", place / "preview")
    return folder


def export_preview(modules: nn.ModuleDict, folder: Path) -> Path:
    """Write the preview autoencoder, an AutoencoderTiny, in fp16. The modules are converted in place."""
    tiny: AutoencoderTiny = modules["tiny"].half()
    with replaced_folder(folder) as place:
        tiny.save_pretrained(place, safe_serialization=True)
        _rewrite(place / "config.json", without=("block_out_channels",))  # diffusers writes it, and warns of it
    return folder


def export_video(vae: AutoencoderKL, modules: nn.ModuleDict, folder: Path) -> Path:
    """Write a LattePipeline in fp16. The modules are converted in place."""
    pipe = t2v.pipeline(vae, modules).to(dtype=torch.float16)
    with replaced_folder(folder) as place:
        pipe.save_pretrained(place, safe_serialization=True)
        _load_in_fp32(place / "text_encoder")
        # before version 5 of transformers, a T5Tokenizer reads no tokenizer.json
        _rewrite(place / "model_index.json", tokenizer=["transformers", "T5TokenizerFast"])
        _rewrite(place / "vae" / "config.json")
        (place / "steer.json").write_text(json_text(t2v.DEFAULTS) + "\n", encoding="utf-8")
    return folder


def export_clip(modules: nn.ModuleDict, folder: Path) -> Path:
    """Write an open_clip folder in fp16: ``open_clip.create_model("local-dir:" + folder)``."""
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for name, value in modules["clip"].state_dict().items()
    }
    config = {
        "model_cfg": clip.model_config(),
        "preprocess_cfg": {
            "mean": list(clip.MEAN),
            "std": list(clip.STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    with replaced_folder(folder) as place:
        save_file(weights, place / "open_clip_model.safetensors", metadata={"format": "pt"})
        (place / "open_clip_config.json").write_text(json_text(config, indent=2) + "\n", encoding="utf-8")
        tokenizers.build().save_pretrained(place)
    return folder


def export_detector(modules: nn.ModuleDict, folder: Path) -> Path:
    """Write the detector in fp16."""
    weights = {name: value.half().contiguous().clone() for name, value in modules["detector"].state_dict().items()}
    with replaced_folder(folder) as place:
        save_file(weights, place / "detector.safetensors", metadata={"format": "pt"})
    return folder


def _load_in_fp32(folder: Path) -> None:
    """Have transformers compute in float32, as diffusers does; it reads the precision from the configuration, and only
    the text encoder of a float32 pipeline would compute in half precision."""
    _rewrite(folder / "config.json", dtype="float32")


def _rewrite(path: Path, *, without: Sequence[str] = (), **values: object) -> None:
    """Set values of a configuration, leave others out, and forget from which folder it came."""
    config = {**json.loads(path.read_text(encoding="utf-8")), **values}
    for name in ("_name_or_path", *without):
        config.pop(name, None)
    path.write_text(json_text(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_plain_tokenizer(folder: Path) -> None:
    """Also write ``vocab.json`` and ``merges.txt``, because older transformers reads only those."""
    words = tokenizers.build()
    vocabulary = dict(sorted(words.get_vocab().items(), key=lambda item: item[1]))
    text = json_text(vocabulary, readable=True)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    merges = [" ".join(pair) for pair in tokenizers.learn_merges(tokenizers.words())]
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")
