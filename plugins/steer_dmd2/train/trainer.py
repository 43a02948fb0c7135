"""The training loop of DMD2 (arXiv 2405.14867, Algorithm in appendix; two time scales, GAN, backward simulation).

All randomness of a step comes from generators keyed by (seed, purpose, step, micro-batch, process), so that a run
that was killed and resumed sees what an unbroken one sees. Modules are not wrapped: gradients are averaged over the
processes by hand, for three networks are trained by interleaved losses.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from steer.backbones.base import Conditioning
from steer_dmd2.train import critic as critics
from steer_dmd2.train import losses
from steer_dmd2.train.data import Dataset, write_whole
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.schedule import forward_inputs, simulate
from steer_dmd2.train.teacher import Teacher, add_lora, trainable

CLIP = 1.0
"""Largest norm of a gradient; that of the student is of a mean over the batch and all elements."""
MATCHED = (0.02, 0.98)
"""Share of the timesteps at which the two distributions are compared."""


class Draw:
    """The generators of one micro-batch: for rows of the data, and for noise."""

    def __init__(self, *key: int) -> None:
        sequence = np.random.SeedSequence(key)
        self.rng = np.random.default_rng(sequence)
        self.noise = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal noise on the CPU."""
        return torch.randn(*shape, generator=self.noise)


class Trainer:
    """Student, critic and head with their optimisers; one :meth:`step` at a time.

    Attributes:
        done: steps taken.
        average: weights of the student's trained parameters, averaged over the steps.
    """

    def __init__(
        self, recipe: Recipe, teacher: Teacher, data: Dataset, accelerator: Accelerator,
        pairs: dict[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        """Make student and critic from the teacher.

        Args:
            pairs: of :func:`steer_dmd2.train.pairs.make`, where the recipe begins with a regression. Without images
                in the data, the GAN takes their samples as real.
        """
        self.recipe, self.teacher, self.accelerator = recipe, teacher, accelerator
        self.data, self.pairs = data, pairs
        self.done = 0
        self._samples: list[tuple[Tensor, list[str]]] = []
        torch.manual_seed(recipe.seed)
        self.student = teacher.copy("student")
        if recipe.lora:
            add_lora(self.student, recipe.lora)
        self.critic = teacher.copy("critic")
        if teacher.device.type == "cpu":
            for name in ("base", "student", "critic"):
                teacher.backbone.denoisers[name].to(memory_format=torch.channels_last)
        self.head = critics.Head(*self._feature_shape()).to(teacher.device)
        self.student_parameters = trainable(self.student)
        self.critic_parameters = [*trainable(self.critic), *self.head.parameters()]
        self.student_optimizer = _optimizer(self.student_parameters, recipe.rate)
        self.critic_optimizer = _optimizer(self.critic_parameters, recipe.critic_rate)
        self.average = [parameter.detach().clone() for parameter in self.student_parameters]

    # ---- one step --------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Take the next step of whichever phase it belongs to; return its losses."""
        step, recipe = self.done, self.recipe
        phase = recipe.phase(step)
        values: dict[str, float] = {}
        if phase == "regression":
            values |= self._update_student(step, self._regression)
        elif phase == "matching":
            values |= self._update_student(step, self._matching)
        if phase != "regression":
            updates = 1 if phase == "critic" else recipe.ratio
            for index in range(updates):
                values |= self._update_critic(step, index)
        self.done += 1
        for name, value in values.items():
            if not np.isfinite(value):
                raise FloatingPointError(f"{name} of step {step} is not finite; lower the learning rates")
        return values

    def _update_student(self, step: int, loss: Callable[[Draw], dict[str, Tensor]]) -> dict[str, float]:
        for group in self.student_optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(step)
        values = self._update(self.student_optimizer, self.student_parameters, loss, "student", step)
        keep = min(self.recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.student_parameters, 1 - keep)
        return values

    def _update_critic(self, step: int, index: int) -> dict[str, float]:
        return self._update(self.critic_optimizer, self.critic_parameters, self._criticism, f"critic{index}", step)

    def _update(
        self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter],
        loss: Callable[[Draw], dict[str, Tensor]], purpose: str, step: int,
    ) -> dict[str, float]:  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        values: dict[str, float] = {}
        for micro in range(self.recipe.accumulate):
            key = (self.recipe.seed, zlib.crc32(purpose.encode()), step, micro, self.accelerator.process_index)
            with self.accelerator.autocast():
                found = loss(Draw(*key))
            (found.pop("loss") / self.recipe.accumulate).backward()
            for name, value in found.items():
                values[name] = values.get(name, 0.0) + float(value.detach()) / self.recipe.accumulate
        self._share(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return {**values, f"{purpose.rstrip('0123456789')}_gradient": float(norm)}

    # ---- losses ----------------------------------------------------------------------------------------

    def _regression(self, draw: Draw) -> dict[str, Tensor]:
        """The teacher's samples from the noise that they came from; later steps get them diffused."""
        assert self.pairs is not None
        rows = torch.from_numpy(draw.rng.integers(len(self.pairs["x0"]), size=self.recipe.batch))
        x0, noise = (self._to_device(self.pairs[name][rows].float()) for name in ("x0", "noise"))
        captions = [self.data.captions[row % len(self.data)] for row in rows.tolist()]
        inputs, timesteps = [], []
        for index, timestep in enumerate(self.recipe.timesteps):
            part = slice(index, None, len(self.recipe.timesteps))
            rows_at = torch.full((len(x0[part]),), timestep, dtype=torch.long, device=x0.device)
            fresh = self._to_device(draw.normal(*x0[part].shape))
            inputs.append(noise[part] if index == 0 else self.teacher.schedule.diffuse(x0[part], fresh, rows_at))
            timesteps.append(rows_at)
        parts = [torch.arange(len(x0))[i :: len(inputs)] for i in range(len(inputs))]
        order = torch.argsort(torch.cat(parts))
        x, timestep = torch.cat(inputs)[order], torch.cat(timesteps)[order]
        out = self.teacher.x0("student", x, timestep, self.teacher.encode(captions))
        loss = losses.denoising(out, x0)
        return {"loss": loss, "regression": loss}

    def _matching(self, draw: Draw) -> dict[str, Tensor]:
        """Distribution matching, and the GAN's part of the student."""
        recipe, schedule = self.recipe, self.teacher.schedule
        x, timestep, captions = self._inputs(draw)
        cond = self.teacher.encode(captions)
        sample = self.teacher.x0("student", x, timestep, cond)
        self._samples.append((sample.detach(), captions))
        at = self._to_device(schedule.draw(len(sample), draw.noise, *MATCHED))
        noise = self._to_device(draw.normal(*sample.shape))
        diffused = schedule.diffuse(sample, noise, at)
        with torch.no_grad():
            guided = self.teacher.encode(captions, recipe.guidance_scale)
            real = self.teacher.x0("base", diffused, at, guided)
            fake = self.teacher.x0("critic", diffused, at, cond)
        found = {"matching": losses.distribution_matching(sample, real, fake)}
        loss = found["matching"]
        if recipe.gan:
            with _frozen(self.critic_parameters):
                found["student_gan"] = losses.adversarial_student(self._logits(diffused, at, cond))
            loss = loss + recipe.gan * found["student_gan"]
        return {"loss": loss, **found}

    def _criticism(self, draw: Draw) -> dict[str, Tensor]:
        """The critic's denoising loss on the student's samples, and the head's on real and generated."""
        recipe, schedule = self.recipe, self.teacher.schedule
        if self._samples:  # those of the student's update just before: as good as fresh ones, and paid for
            sample, captions = self._samples.pop(0)
            cond = self.teacher.encode(captions)
        else:
            x, timestep, captions = self._inputs(draw)
            cond = self.teacher.encode(captions)
            with torch.no_grad():
                sample = self.teacher.x0("student", x, timestep, cond)
        at = self._to_device(schedule.draw(len(sample), draw.noise, *MATCHED))
        noise = self._to_device(draw.normal(*sample.shape))
        diffused = schedule.diffuse(sample, noise, at)
        prediction, features = critics.with_features(
            self.critic, lambda: self.teacher.predict("critic", diffused, at, cond)
        )
        weight = None
        if recipe.snr_clip:
            weight = losses.min_snr_weight(*(v.flatten() for v in schedule.level(at, sample.ndim)), recipe.snr_clip)
        found = {"critic": losses.denoising(prediction, schedule.target(sample, noise, at), weight)}
        loss = found["critic"]
        if recipe.gan:
            real, captions = self._real(draw, len(sample))
            diffused = schedule.diffuse(real, self._to_device(draw.normal(*real.shape)), at)
            logits = self._logits(diffused, at, self.teacher.encode(captions))
            fake = self.head(features)
            found["critic_gan"] = losses.adversarial_critic(logits, fake)
            found["head_right"] = ((logits > 0).float().mean() + (fake < 0).float().mean()) / 2
            loss = loss + recipe.gan_critic * found["critic_gan"]
        return {"loss": loss, **found}

    # ---- batches ---------------------------------------------------------------------------------------

    def _inputs(self, draw: Draw) -> tuple[Tensor, Tensor, list[str]]:
        """Return a batch of the student's inputs ``[B, …]``, their timesteps ``[B]`` and captions.

        A multi-step student is run once for B/K captions, and every step of it gives a row: B rows at the price of
        B·(K−1)/K forwards, with all of its steps in every batch.
        """
        recipe = self.recipe
        count = recipe.batch // len(recipe.timesteps)
        rows = torch.from_numpy(draw.rng.integers(len(self.data), size=count))
        captions = [self.data.captions[row] for row in rows.tolist()]
        noises = [self._to_device(draw.normal(count, *self.teacher.shape)) for _ in recipe.timesteps]
        schedule = self.teacher.schedule
        with torch.no_grad():
            if recipe.simulate:
                cond = self.teacher.encode(captions)
                inputs = simulate(
                    lambda x, t: self.teacher.x0("student", x, t, cond), schedule, noises, recipe.timesteps
                )
            else:
                real, captions = self._real(draw, count)
                inputs = forward_inputs(real, schedule, noises, recipe.timesteps)
        x, timesteps = (torch.cat(parts) for parts in zip(*inputs, strict=True))
        return x, timesteps, captions * len(inputs)

    def _real(self, draw: Draw, count: int) -> tuple[Tensor, list[str]]:
        """Draw real latents with their captions: the data's, or the teacher's samples of the pairs."""
        if self.data.mean is not None:
            rows = torch.from_numpy(draw.rng.integers(len(self.data), size=count))
            latents = self.data.latents(rows, draw.noise)
        else:
            assert self.pairs is not None
            rows = torch.from_numpy(draw.rng.integers(len(self.pairs["x0"]), size=count))
            latents = self.pairs["x0"][rows].float()
        return self._to_device(latents), [self.data.captions[row % len(self.data)] for row in rows.tolist()]

    def _logits(self, x: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        features = critics.features_only(
            self.critic, lambda: self.teacher.predict("critic", x, timestep, cond)
        )
        logits: Tensor = self.head(features)
        return logits

    def _feature_shape(self) -> tuple[int, int]:
        x = torch.zeros(1, *self.teacher.shape, device=self.teacher.device)
        timestep = torch.zeros(1, dtype=torch.long, device=self.teacher.device)
        cond = self.teacher.encode([""])
        return critics.feature_shape(self.critic, lambda: self.teacher.predict("critic", x, timestep, cond))

    def _to_device(self, value: Tensor) -> Tensor:
        value = value.to(self.teacher.device)
        return value.to(memory_format=torch.channels_last) if value.ndim == 4 else value

    def _share(self, parameters: list[nn.Parameter]) -> None:
        """Average gradients over the processes, all in one message."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for parameter, part in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    # ---- weights ---------------------------------------------------------------------------------------

    def averaged(self) -> Any:
        """Return the student with averaged weights, under the name ``"averaged"``; made once, then refreshed."""
        denoisers = self.teacher.backbone.denoisers
        if "averaged" not in denoisers:
            import copy

            denoisers["averaged"] = copy.deepcopy(self.student).eval()
        module = denoisers["averaged"]
        with torch.no_grad():
            torch._foreach_copy_(trainable(module), self.average)
        return module

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs."""
        state = {
            "done": self.done,
            "student": [p.detach() for p in self.student_parameters],
            "average": self.average,
            "critic": self.critic.state_dict(),
            "head": self.head.state_dict(),
            "student_optimizer": self.student_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }
        write_whole(path, lambda file: torch.save(state, file))

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        state = torch.load(path, map_location=self.teacher.device, weights_only=True)
        with torch.no_grad():
            torch._foreach_copy_(self.student_parameters, state["student"])
            torch._foreach_copy_(self.average, state["average"])
        self.critic.load_state_dict(state["critic"])
        self.head.load_state_dict(state["head"])
        self.student_optimizer.load_state_dict(state["student_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.done = int(state["done"])


def _optimizer(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    # no momentum over a target that moves with the student would be slow here; 0.9 is the paper's
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


class _frozen:
    """Keeps gradients of a loss from reaching parameters, though they flow through what they compute."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)


def steps_left(trainer: Trainer) -> Iterator[int]:
    """Yield the steps that are still to take."""
    while trainer.done < trainer.recipe.total:
        yield trainer.done
