"""Tiny random models of text in folders, for smoke runs: an MDLM, a classifier and a causal language model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from steer_text.mdlm import Mdlm

WORDS = [
    "<|endoftext|>", "<unk>", "Once", "upon", "a", "time", "The", "book", "chicken", "city", "road", "is", "in", "of",
    "and", "big", ".", ",", "was",
]  # fmt: skip
END = "<|endoftext|>"


def tiny_models(root: Path) -> dict[str, Path]:
    """Write the models; return their folders."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token=END, bos_token=END, eos_token=END, model_max_length=32
    )
    folders = {name: root / name for name in ("mdlm", "classifier", "causal")}
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    labels = {"id2label": {0: "neutral", 1: "toxic"}, "label2id": {"neutral": 0, "toxic": 1}}
    made = {
        "classifier": BertForSequenceClassification(
            BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, initializer_range=0.5, **small, **labels)
        ),
        "causal": GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2, n_positions=32)),
    }
    for name, model in made.items():
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    mdlm = Mdlm(vocabulary=len(WORDS) + 1, width=16, heads=2, condition=8, blocks=1, longest=32)
    state = {f"backbone.{name}": torch.randn(tensor.shape) * 0.3 for name, tensor in mdlm.state_dict().items()}
    folders["mdlm"].mkdir(exist_ok=True)
    save_file(state, folders["mdlm"] / "model.safetensors")
    (folders["mdlm"] / "config.json").write_text(json.dumps({"model_type": "mdlm", "model_length": 32, "n_heads": 2}))
    inner.save(str(folders["mdlm"] / "tokenizer.json"))
    return folders
