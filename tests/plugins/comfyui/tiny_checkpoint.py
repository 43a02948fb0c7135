"""A custom node for tests: takes CheckpointLoaderSimple's place with a tiny model, of ComfyUI's own classes."""

from __future__ import annotations

from pathlib import Path

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy import model_management

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 32, "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
    "dtype": torch.float32,
}  # fmt: skip


class Texts:
    """Takes a CLIP's place: encodes the texts of a file."""

    def __init__(self, texts):
        self.texts = texts

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        return [[self.texts[text], {"pooled_output": None}]]


def out_of_memory(*_):
    raise torch.OutOfMemoryError("tried to allocate 2.00 GiB")


class TinyCheckpoint:
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"ckpt_name": ("STRING", {})}}

    def load(self, ckpt_name):
        folder = Path(__file__).parent / "tiny_weights"
        unet, vae, texts = (
            comfy.utils.load_torch_file(str(folder / f"{name}.safetensors")) for name in ("unet", "vae", "texts")
        )
        model = comfy.model_base.BaseModel(comfy.supported_models.SD15(dict(UNET)))
        names = comfy.utils.unet_to_diffusers(UNET)
        model.diffusion_model.load_state_dict({names[name]: value for name, value in unet.items()})
        device = model_management.get_torch_device()
        patcher = comfy.model_patcher.ModelPatcher(model.eval(), load_device=device, offload_device=device)
        if ckpt_name == "large":
            patcher.set_model_unet_function_wrapper(out_of_memory)
        return (
            patcher,
            Texts({name.removeprefix("text:"): value for name, value in texts.items()}),
            comfy.sd.VAE(sd=vae),
        )


NODE_CLASS_MAPPINGS = {"TinyCheckpoint": TinyCheckpoint}
