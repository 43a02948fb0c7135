"""Tiny pipelines in one file, by the names of their trainers: the reverse of diffusers' conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {"norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "norm2.": "out_layers.0.", "conv2.": "out_layers.3.",
          "time_emb_proj.": "emb_layers.1.", "conv_shortcut.": "skip_connection."}  # fmt: skip
CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", ".fc1.": ".c_fc.", ".fc2.": ".c_proj.", "self_attn": "attn"}


def renamed(name: str, names: Mapping[str, str]) -> str:
    for new, old in names.items():
        name = name.replace(new, old)
    return name


def unet(state: Mapping[str, Tensor], layers: int = 1) -> dict[str, Tensor]:
    """Return a UNet's tensors by the names of Stable Diffusion's repository."""
    plain = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
    attended = {name.split(".attentions.")[0] for name in state if ".attentions." in name}

    def place(name: str) -> str:
        found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
        if found is None:
            mid = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
            if mid is None:
                return renamed(name, plain)
            place = 1 if mid[1] == "attentions" else 2 * int(mid[2])
            return f"middle_block.{place}.{renamed(mid[3], RESNET) if mid[1] == 'resnets' else mid[3]}"
        side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        each = layers + 1
        number = each * block + layer + (1 if side == "down" else 0)
        if kind == "downsamplers":
            return f"input_blocks.{each * (block + 1)}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            inner = 2 if f"up_blocks.{block}" in attended else 1
            return f"output_blocks.{each * block + layers}.{inner}.{rest}"
        stack = "input_blocks" if side == "down" else "output_blocks"
        return f"{stack}.{number}.{f'0.{renamed(rest, RESNET)}' if kind == 'resnets' else f'1.{rest}'}"

    return {f"model.diffusion_model.{place(name)}": tensor for name, tensor in state.items()}


def vae(state: Mapping[str, Tensor], levels: int = 2) -> dict[str, Tensor]:
    """Return an autoencoder's tensors by the names of Stable Diffusion's repository."""
    attention = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}

    def place(name: str) -> str:
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up.{levels - 1 - int(m[1])}.", name)
        name = re.sub(r"(up\.\d)\.resnets\.", r"\1.block.", name).replace("upsamplers.0", "upsample")
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in name:
            name = renamed(name.replace("mid_block.attentions.0.", "mid.attn_1."), attention)
        return name

    def shaped(name: str, tensor: Tensor) -> Tensor:
        return (
            tensor[..., None, None] if ".attn_1." in name and name.endswith("weight") and tensor.ndim == 2 else tensor
        )

    places = {place(name): tensor for name, tensor in state.items()}
    return {name: shaped(name, tensor) for name, tensor in places.items()}


def clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP text encoder's tensors by the names of transformers before its version 5.6."""
    return {name if name.startswith(("text_model.", "text_projection")) else f"text_model.{name}": tensor
            for name, tensor in state.items()}  # fmt: skip


def open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP text encoder's tensors by the names of open_clip."""
    whole = {"text_model.embeddings.position_embedding.weight": "positional_embedding",
             "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
             "text_model.final_layer_norm.weight": "ln_final.weight",
             "text_model.final_layer_norm.bias": "ln_final.bias"}  # fmt: skip
    found, projections = {}, {}
    for name, tensor in clip(state).items():
        if name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif name in whole:
            found[whole[name]] = tensor
        else:
            inner = renamed(name.replace("text_model.encoder.layers.", "transformer.resblocks."), CLIP)
            part = re.match(r"(.*\.attn)\.([qkv])_proj\.(weight|bias)", inner)
            if part is None:
                found[inner] = tensor
            else:
                projections.setdefault((part[1], part[3]), {})[part[2]] = tensor
    for (attention, kind), parts in projections.items():
        found[f"{attention}.in_proj_{kind}"] = torch.cat([parts[key] for key in "qkv"])
    return found


def sd3(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an SD3 transformer's tensors by the names of Stability's repository."""
    plain = {"pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj", "proj_out": "final_layer.linear",
             "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
             "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
             "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
             "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2"}  # fmt: skip
    block = {"norm1_context.linear": "context_block.adaLN_modulation.1", "norm1.linear": "x_block.adaLN_modulation.1",
             "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
             "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
             "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2"}  # fmt: skip
    order = {"to_q": "x", "to_k": "x", "to_v": "x", "add_q_proj": "context", "add_k_proj": "context",
             "add_v_proj": "context"}  # fmt: skip
    last = max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    swapped = ("norm_out.", f"transformer_blocks.{last}.norm1_context.")
    found: dict[str, Tensor] = {}
    joined: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith(swapped):  # scale and shift in the other order
            tensor = torch.cat([*reversed(tensor.chunk(2))])
        inside = re.match(r"transformer_blocks\.(\d+)\.(.*)\.(weight|bias)", name)
        if inside is None:
            found[renamed(name, plain).replace("norm_out.linear", "final_layer.adaLN_modulation.1")] = tensor
        elif inside[2].removeprefix("attn.") in order:
            side = order[inside[2].removeprefix("attn.")]
            joined.setdefault(f"joint_blocks.{inside[1]}.{side}_block.attn.qkv.{inside[3]}", []).append(tensor)
        else:
            found[f"joint_blocks.{inside[1]}.{block[inside[2]]}.{inside[3]}"] = tensor
    for name, tensors in joined.items():
        if "context" in name:  # diffusers has k, v, q
            tensors = [tensors[2], *tensors[:2]]
        found[name] = torch.cat(tensors)
    return {f"model.diffusion_model.{name}": tensor for name, tensor in found.items()}


def flux(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a Flux transformer's tensors by the names of Black Forest Labs' repository."""
    embedders = {"timestep": "time_in", "text": "vector_in", "guidance": "guidance_in"}
    plain = {f"time_text_embed.{kind}_embedder.linear_{number}": f"{name}.{side}_layer"
             for kind, name in embedders.items() for number, side in ((1, "in"), (2, "out"))}  # fmt: skip
    plain |= {"context_embedder": "txt_in", "x_embedder": "img_in", "proj_out": "final_layer.linear",
              "norm_out.linear": "final_layer.adaLN_modulation.1"}  # fmt: skip
    double = {"norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
              "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
              "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2",
              "ff_context.net.0.proj": "txt_mlp.0", "ff_context.net.2": "txt_mlp.2"}  # fmt: skip
    double |= {f"attn.norm_{added}{side}": f"{stream}_attn.norm.{name}_norm"
               for added, stream in (("", "img"), ("added_", "txt"))
               for side, name in (("q", "query"), ("k", "key"))}  # fmt: skip
    single = {"norm.linear": "modulation.lin", "proj_out": "linear2", "attn.norm_q": "norm.query_norm",
              "attn.norm_k": "norm.key_norm"}  # fmt: skip
    joins = {**{f"attn.to_{side}": "img_attn.qkv" for side in "qkv"},
             **{f"attn.add_{side}_proj": "txt_attn.qkv" for side in "qkv"}}  # fmt: skip
    joined: dict[str, list[Tensor]] = {}
    found: dict[str, Tensor] = {}
    order = ("_q", "_k", "_v", "proj_mlp")
    for name in sorted(state, key=lambda name: next((i for i, part in enumerate(order) if part in name), 0)):
        tensor = state[name]
        inside = re.match(r"(single_)?transformer_blocks\.(\d+)\.(.*)\.(weight|bias)", name)
        if inside is None:
            tensor = torch.cat([*reversed(tensor.chunk(2))]) if name.startswith("norm_out.") else tensor
            found[renamed(name, plain)] = tensor
            continue
        alone, block, part, kind = inside.groups()
        place = f"{'single' if alone else 'double'}_blocks.{block}"
        if alone and part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"):
            joined.setdefault(f"{place}.linear1.{kind}", []).append(tensor)
        elif not alone and part in joins:
            joined.setdefault(f"{place}.{joins[part]}.{kind}", []).append(tensor)
        else:
            scale = "scale" if ".norm_" in f".{part}" and "attn" in part else kind
            found[f"{place}.{(single if alone else double)[part]}.{scale}"] = tensor
    return found | {name: torch.cat(tensors) for name, tensors in joined.items()}


@contextmanager
def flux_of_width(width: int) -> Iterator[None]:
    """Have diffusers take Flux's joined layers apart at another width than the published one, which it knows alone."""
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers as convert

    code = convert.__code__
    assert 3072 in code.co_consts
    constants = tuple(width if constant == 3072 else constant for constant in code.co_consts)
    convert.__code__ = code.replace(co_consts=constants)
    try:
        yield
    finally:
        convert.__code__ = code


def prefixed(start: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{start}{name}": tensor for name, tensor in state.items()}


def whole(pipe: Any) -> dict[str, Tensor]:
    """Return a Stable Diffusion, SDXL, SD3 or Flux pipeline's tensors as one file has them."""
    states = {name: part.state_dict() for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    if "text_encoder_2" in states and "transformer" in states and "text_encoder_3" not in states:
        return {
            **prefixed("vae.", vae(states["vae"])),
            **prefixed("model.diffusion_model.", flux(states["transformer"])),
            **prefixed("text_encoders.clip_l.transformer.", clip(states["text_encoder"])),
            **prefixed("text_encoders.t5xxl.transformer.", states["text_encoder_2"]),
        }
    found = prefixed("first_stage_model.", vae(states["vae"]))
    if "transformer" in states:
        found |= sd3(states["transformer"]) | prefixed("text_encoders.t5xxl.transformer.", states["text_encoder_3"])
        for key, name in (("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")):
            found |= prefixed(f"text_encoders.{key}.transformer.", clip(states[name]))
        return found
    found |= unet(states["unet"])
    if "text_encoder_2" in states:
        found |= prefixed("conditioner.embedders.0.transformer.", clip(states["text_encoder"]))
        return found | prefixed("conditioner.embedders.1.model.", open_clip(states["text_encoder_2"]))
    return found | prefixed("cond_stage_model.transformer.", clip(states["text_encoder"]))


def write(tensors: Mapping[str, Tensor], file: Path) -> Path:
    """Write tensors into a file and return it; those that share memory are copied."""
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file)
    return file
