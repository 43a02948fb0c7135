"""Detectors, and a model of depth, of tiny size and random weights in folders, as users have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import (
    BertConfig,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from steer_shapes.scenes import SHAPES
from support.reward_models import words_tokenizer

LABELS = ("dog", "tvmonitor", "sofa", *SHAPES)
"""Of the detector with fixed classes; spelled as published tables of labels spell them."""
WORDS = ["a", "photo", "of", "dog", "cat", "tv", "hot", *SHAPES, "."]


def _swin(stages: int) -> SwinConfig:
    return SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1] * stages, num_heads=[2] * stages, window_size=4,
        out_features=[f"stage{number + 1}" for number in range(stages)],
    )  # fmt: skip


def _saved(
    folder: Path, kind: Any, config: Any, processor: Any, change: Callable[[Any], object] = lambda model: None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval()
        for name, tensor in model.named_parameters():  # initial weights are too small to tell images apart
            if tensor.dim() > 1 and "embed" not in name:
                torch.nn.init.normal_(tensor, std=0.3)
        change(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def mask2former_folder(folder: Path) -> Path:
    """Write a tiny Mask2Former with eight classes."""
    config = Mask2FormerConfig(
        backbone_config=_swin(4), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=12,
        id2label=dict(enumerate(LABELS)), label2id={name: number for number, name in enumerate(LABELS)},
    )  # fmt: skip
    processor = Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, size_divisor=32)
    return _saved(folder, Mask2FormerForUniversalSegmentation, config, processor)


def owlv2_folder(folder: Path) -> Path:
    """Write a tiny OWLv2."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["!", "<|startoftext|>", "<|endoftext|>", "<unk>", *WORDS]  # a query that begins with token 0 is none
    inner = words_tokenizer(words)
    inner.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 1), ("<|endoftext|>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="!",
        unk_token="<unk>", model_max_length=16,
    )  # fmt: skip
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={
            **sizes, "vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={**sizes, "image_size": 64, "patch_size": 16}, projection_dim=16,
    )  # fmt: skip
    processor = Owlv2Processor(Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    return _saved(folder, Owlv2ForObjectDetection, config, processor, _moderate)


@torch.no_grad()
def _moderate(model: Any) -> None:
    """Let the scores of an OWLv2 depend on the cosine of box and name alone; random ones are 0 or 1."""
    for head, bias in ((model.class_head.logit_shift, 0.5), (model.class_head.logit_scale, 1.0)):
        head.weight.zero_()
        head.bias.fill_(bias)


def grounding_dino_folder(folder: Path) -> Path:
    """Write a tiny Grounding DINO."""
    places = {"[PAD]": 0, "[CLS]": 101, "[SEP]": 102, ".": 1012}  # the model knows BERT's by number
    words = [f"[unused{number}]" for number in range(1013)]
    words[1 : len(WORDS)] = ["<unk>", *WORDS[:-1]]
    for word, number in places.items():
        words[number] = word
    inner = words_tokenizer(words)
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="<unk>", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=_swin(3), text_config=text, num_queries=10, encoder_layers=1, encoder_ffn_dim=16,
        encoder_attention_heads=4, decoder_layers=2, decoder_ffn_dim=16, decoder_attention_heads=2, d_model=32,
        num_feature_levels=3, max_text_len=32, disable_custom_kernels=True,
    )  # fmt: skip
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}), tokenizer
    )
    return _saved(folder, GroundingDinoForObjectDetection, config, processor)


def depth_folder(folder: Path) -> Path:
    """Write a tiny DPT."""
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
    )  # fmt: skip
    return _saved(folder, DPTForDepthEstimation, config, DPTImageProcessor(size={"height": 64, "width": 64}))
