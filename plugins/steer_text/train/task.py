"""A masked-diffusion model of sentences: its recipe, its losses and its export."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steer import SteerError
from steer.plugin import json_text
from steer.training import Draw, Machine, Part, Task, TrainingRecipe, Update, adamw, replaced_folder, warmup_cosine
from steer_text import tokenizer
from steer_text.data import Mixture
from steer_text.train import objective

VOCABULARY_DRAWS = 20_000
"""Sentences from which the words are collected, enough for every word of a grammar to occur."""
HEAD = 32
"""Width of an attention head."""


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingRecipe):
    """How a model is trained; the defaults make one like the shipped model, in about four minutes on one CPU core.

    Attributes:
        data: sources and shares (:class:`steer_text.data.Mixture`).
        length: tokens per sequence.
        width: of the transformer; each head has 32.
        layers: of the transformer.
        warmup: steps of the linear warm-up before the cosine.
    """

    data: tuple[str, ...]
    length: int = 24
    width: int = 128
    layers: int = 4
    steps: int = 1500
    batch: int = 64
    rate: float = 2e-3
    warmup: int = 100
    ema: float = 0.998


class TextTask(Task):
    """Trains a transformer on MDLM's bound; ``words`` is a hash of the vocabulary."""

    name = "text"

    def __init__(self, recipe: Recipe, machine: Machine) -> None:
        """Collect the words from the data and make the model.

        Raises:
            SteerError: for a width that is not a multiple of 32, or data that cannot be read.
        """
        if recipe.width % HEAD:
            raise SteerError(f"--width {recipe.width}: expected a multiple of {HEAD}, the width of a head")
        self.recipe, self.machine = recipe, machine
        self.mixture = Mixture(recipe.data)
        sentences = self.mixture.batch(Draw(recipe.seed, 0).rng, VOCABULARY_DRAWS)
        self.tokenizer = tokenizer.build(sentences, length=recipe.length)
        words = json_text(self.tokenizer.get_vocab(), sort_keys=True)
        self.words = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
        torch.manual_seed(recipe.seed)
        self.model = machine.shard(make_model(recipe, len(self.tokenizer)).to(machine.device).train())
        self.part = Part(
            self.model, adamw(self.model, recipe.rate, betas=(0.9, 0.98), matrices_only=True, bits=recipe.adam_bits)
        )
        self.parts = {"model": self.part}

    def updates(self, step: int) -> Iterator[Update]:
        """Yield one update by the bound; its rate is warmed up and then lowered along a cosine."""
        recipe = self.recipe
        rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
        yield Update("model", rate, lambda part: self.losses(Draw(recipe.seed, 1, step, part)))

    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return the bound on a batch, in nats per sequence."""
        noise = torch.Generator().manual_seed(int(draw.rng.integers(2**32)))
        tokens = encode(self.tokenizer, self.mixture.batch(draw.rng, self.recipe.batch), self.recipe.length)
        with self.machine.autocast():
            return {"loss": objective.bound(self.model, tokens, self.tokenizer.mask_token_id, beginning(tokens), noise)}

    def export(self, target: Path) -> Path:
        """Write the averaged model as a transformers folder in fp16, with its tokenizer; return the folder.

        All processes call this, the first one writes.
        """
        model = make_model(self.recipe, len(self.tokenizer))
        model.load_state_dict(self.part.whole_average())
        if not self.machine.is_main_process:
            return target
        with replaced_folder(target) as folder:
            model.half().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            # the weights are stored in half precision; the loader decides the precision of the computation
            path = folder / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            config["dtype"] = "float32"
            path.write_text(json_text(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return target


def make_model(recipe: Recipe, vocabulary: int) -> Any:
    """Return a fresh bidirectional transformer: a ``BertForMaskedLM`` without dropout."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // HEAD,
        intermediate_size=3 * recipe.width,
        max_position_embeddings=recipe.length,
        type_vocab_size=1,
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        tie_word_embeddings=True,
    )
    return BertForMaskedLM(config)


def encode(tokens: Any, sentences: list[str], length: int) -> Tensor:
    """Return token ids ``[B, length]``, padded with the padding token, which is learned like any other.

    Raises:
        SteerError: for a sentence that is too long.
    """
    rows = tokens(sentences).input_ids
    for text, row in zip(sentences, rows, strict=True):
        if len(row) > length:
            raise SteerError(f"{text[:60]!r} has {len(row)} tokens including its ends, expected at most {length}")
    return torch.tensor([row + [tokens.pad_token_id] * (length - len(row)) for row in rows])


def beginning(tokens: Tensor) -> Tensor:
    """Return a bool ``[B, L]`` that marks each sequence's first token, which is never masked."""
    first = torch.zeros_like(tokens, dtype=torch.bool)
    first[:, 0] = True
    return first
