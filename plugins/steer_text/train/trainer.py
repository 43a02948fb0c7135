"""Training a masked-diffusion model: seeded, resumable, logged."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steer import SteerError
from steer.training import (
    begun_average,
    check_begins,
    check_finite,
    check_same,
    move_average,
    read_checkpoint,
    replaced_folder,
    rows_until,
    save_checkpoint,
    warmup_cosine,
    write_whole,
)
from steer_text import tokenizer
from steer_text.data import Mixture
from steer_text.train import objective

VOCABULARY_DRAWS = 20_000
"""Sentences that the words are taken from: enough for every word of a grammar to come."""
CHECKPOINT, LOG, MODEL = "checkpoint.pt", "log.jsonl", "model"
HEAD = 32
"""Width of an attention head."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults make one like that which ships, in some four minutes of one CPU core.

    Attributes:
        data: sources and shares (:class:`steer_text.data.Mixture`).
        length: tokens of a sequence.
        width: of the transformer; heads have 32.
        layers: of the transformer.
        steps: optimiser steps.
        batch: sequences a step.
        rate: highest learning rate; warmed up and then lowered along a cosine.
        ema: decay of the average of weights that is exported.
        seed: of everything.
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
    seed: int = 0


@dataclass
class _Standing:
    """What a checkpoint holds beside the weights."""

    step: int = 0
    seconds: float = 0.0


class Trainer:
    """Trains by a recipe in a folder: ``checkpoint.pt``, ``log.jsonl`` and, at the end, ``model/``."""

    def __init__(self, recipe: Recipe, folder: Path, *, resume: bool, tell: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            recipe: how.
            folder: where.
            resume: go on from the checkpoint there, of the same recipe but for its steps.
            tell: takes a line for people now and then.

        Raises:
            SteerError: if there is none, or one of another recipe; without ``resume``, if the folder holds a training;
                for a width that no heads of 32 fit in.
        """
        if recipe.width % HEAD:
            raise SteerError(f"--width {recipe.width}: expected a multiple of {HEAD}, the width of a head")
        check_begins(folder / CHECKPOINT, resume=resume)
        self._recipe, self._folder, self._tell = recipe, folder, tell
        self._mixture = Mixture(recipe.data)
        rng = np.random.default_rng([recipe.seed, 0])
        self.tokenizer = tokenizer.build(self._mixture.batch(rng, VOCABULARY_DRAWS), length=recipe.length)
        words = json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        self._words = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
        torch.manual_seed(recipe.seed)
        self.model = make_model(recipe, len(self.tokenizer))
        self._average = begun_average(self.model)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
        self._standing = _Standing()
        if resume:
            self._load()
            log = folder / LOG
            if log.is_file():
                kept = rows_until(log.read_text(encoding="utf-8", errors="replace"), self._standing.step)
                write_whole(log, lambda path: path.write_text(kept, encoding="utf-8"))
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, save_every: int = 250, log_every: int = 50) -> Path:
        """Train to the end and export; return the model's folder."""
        recipe, began = self._recipe, time.monotonic() - self._standing.seconds
        self.model.train()
        losses: list[float] = []
        for step in range(self._standing.step, recipe.steps):
            losses.append(self._step(step))
            self._standing = _Standing(step + 1, time.monotonic() - began)
            last = step + 1 == recipe.steps
            if (step + 1) % log_every == 0 or last:
                self._log(sum(losses) / len(losses))
                losses = []
            if (step + 1) % save_every == 0 or last:
                self._save()
        return self.export()

    def export(self) -> Path:
        """Write the averaged model as a transformers folder in fp16, with its tokenizer; return the folder."""
        model = make_model(self._recipe, len(self.tokenizer))
        model.load_state_dict(self._average)
        target = self._folder / MODEL
        with replaced_folder(target) as folder:
            model.half().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            # the weights are stored in half precision; what they compute in is the loader's business
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config["dtype"] = "float32"
            (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return target

    def _step(self, step: int) -> float:
        recipe = self._recipe
        # keyed by the step, so that a resumed training sees what one that was not interrupted sees
        rng = np.random.default_rng([recipe.seed, 1, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**32)))
        tokens = encode(self.tokenizer, self._mixture.batch(rng, recipe.batch), recipe.length)
        loss = objective.bound(self.model, tokens, self.tokenizer.mask_token_id, beginning(tokens), generator)
        check_finite(loss, step)
        rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        move_average(self._average, self.model, step, recipe.ema)
        return float(loss.detach())

    def _log(self, loss: float) -> None:
        standing = self._standing
        row = {"step": standing.step, "seconds": round(standing.seconds, 1), "nats_per_sequence": loss}
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._tell(f"step {standing.step}/{self._recipe.steps}: {loss:.3f} nats a sequence, {standing.seconds:.0f} s")

    def _save(self) -> None:
        data = {
            "recipe": json.dumps(asdict(self._recipe)), "model": self.model.state_dict(), "average": self._average,
            "optimizer": self._optimizer.state_dict(), "step": self._standing.step, "seconds": self._standing.seconds,
            "words": self._words,
        }  # fmt: skip
        save_checkpoint(data, self._folder / CHECKPOINT)

    def _load(self) -> None:
        data = read_checkpoint(
            self._folder / CHECKPOINT, ("recipe", "model", "optimizer", "average", "step", "seconds")
        )
        check_same(json.loads(data["recipe"]), asdict(self._recipe), self._folder, but=("steps",))
        if data.get("words", self._words) != self._words:  # older ones do not say
            raise SteerError(
                f"--resume: the sentences of {', '.join(self._recipe.data)} have other words than when the run in "
                f"{self._folder} began; begin anew in another --out"
            )
        self.model.load_state_dict(data["model"])
        self._optimizer.load_state_dict(data["optimizer"])
        self._average = data["average"]
        self._standing = _Standing(data["step"], data["seconds"])


def make_model(recipe: Recipe, vocabulary: int) -> Any:
    """Return a fresh bidirectional transformer: a ``BertForMaskedLM`` without dropout."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=vocabulary, hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // HEAD, intermediate_size=3 * recipe.width,
        max_position_embeddings=recipe.length, type_vocab_size=1, pad_token_id=0,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, tie_word_embeddings=True,
    )  # fmt: skip
    return BertForMaskedLM(config)


def encode(tokens: Any, sentences: list[str], length: int) -> Tensor:
    """Return token ids ``[B, length]``, filled up with the padding token, which is learned like any other.

    Raises:
        SteerError: for a sentence that is too long.
    """
    rows = tokens(sentences).input_ids
    for text, row in zip(sentences, rows, strict=True):
        if len(row) > length:
            raise SteerError(f"{text[:60]!r} has {len(row)} tokens with its ends, expected at most {length}")
    return torch.tensor([row + [tokens.pad_token_id] * (length - len(row)) for row in rows])


def beginning(tokens: Tensor) -> Tensor:
    """Return a bool ``[B, L]`` of what is never masked: the token that begins a sequence."""
    first = torch.zeros_like(tokens, dtype=torch.bool)
    first[:, 0] = True
    return first
