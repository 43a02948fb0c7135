"""The training loop of DMD2 (arXiv 2405.14867, Algorithm in appendix; two time scales, GAN, backward simulation).

All randomness of a step comes from generators keyed by (seed, purpose, step, micro-batch, process), so that a run
that was killed and resumed sees what an unbroken one sees. Modules are not wrapped: gradients are averaged over the
processes by hand, for three networks are trained by interleaved losses.
"""

from __future__ import annotations

import copy
import pickle
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from steer import SteerError
from steer.plugin import message_of
from steer.training import kept, mean_over_processes, save_checkpoint
from steer_dmd2.loading import Chosen, choose, denoiser
from steer_dmd2.options import DMD2Options
from steer_dmd2.train import critic as critics
from steer_dmd2.train.data import Dataset
from steer_dmd2.train.objectives import Draw, Objectives
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.teacher import Teacher, add_lora, trainable

CLIP = 1.0
"""Largest norm of a gradient; that of the student is of a mean over the batch and all elements."""


class Trainer:
    """Student, critic and head with their optimisers; one :meth:`step` at a time.

    Attributes:
        done: steps taken.
        average: weights of the student's trained parameters, averaged over the steps.
    """

    def __init__(
        self, recipe: Recipe, teacher: Teacher, data: Dataset, accelerator: Accelerator,
        pairs: dict[str, Tensor] | None = None, start: Chosen | None = None,
    ) -> None:  # fmt: skip
        """Make student and critic from the teacher.

        Args:
            start: of :func:`start_of`, whose weights the student begins with instead of the teacher's.
            pairs: of :func:`steer_dmd2.train.pairs.make`, where the recipe begins with a regression. Without images
                in the data, the GAN takes their samples as real.
        """
        self.recipe, self.teacher, self.accelerator = recipe, teacher, accelerator
        self.done = 0
        torch.manual_seed(recipe.seed)
        self.student = teacher.copy("student")
        if start is not None:
            self.student.load_state_dict(denoiser(start, teacher.backbone, start.file()).state_dict())
        if recipe.lora:
            add_lora(self.student, recipe.lora)
        self.critic = teacher.copy("critic")
        if teacher.device.type == "cpu":
            for name in ("base", "student", "critic"):
                teacher.backbone.denoisers[name].to(memory_format=torch.channels_last)
        self.head = critics.Head(*self._feature_shape()).to(teacher.device)
        self.objectives = Objectives(recipe, teacher, data, pairs, self.critic, self.head)
        self.student_parameters: list[Tensor] = trainable(self.student)
        self.critic_parameters: list[Tensor] = [*trainable(self.critic), *self.head.parameters()]
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
            values |= self._update_student(step, self.objectives.regression)
        elif phase == "matching":
            values |= self._update_student(step, self.objectives.matching)
        if phase != "regression":
            updates = 1 if phase == "critic" else recipe.ratio
            for index in range(updates):
                values |= self._update_critic(step, index)
        self.done += 1
        for name, value in values.items():
            if not np.isfinite(value):
                raise SteerError(
                    f"{name} of step {step} is {value}: the learning rates are too high; begin anew with lower ones "
                    "(--rate, --critic-rate, --warmup-rate)"
                )
        return values

    def _update_student(self, step: int, loss: Callable[[Draw], dict[str, Tensor]]) -> dict[str, float]:
        for group in self.student_optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(step)
        values = self._update(self.student_optimizer, self.student_parameters, loss, "student", step)
        keep = kept(step, self.recipe.ema)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.student_parameters, 1 - keep)
        return values

    def _update_critic(self, step: int, index: int) -> dict[str, float]:
        return self._update(
            self.critic_optimizer, self.critic_parameters, self.objectives.criticism, f"critic{index}", step
        )

    def _update(
        self, optimizer: torch.optim.Optimizer, parameters: list[Tensor],
        loss: Callable[[Draw], dict[str, Tensor]], purpose: str, step: int,
    ) -> dict[str, float]:  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        values: dict[str, float] = {}
        for micro in range(self.recipe.accumulate):
            # two processes draw what one that accumulates two batches would
            part = micro * self.accelerator.num_processes + self.accelerator.process_index
            key = (self.recipe.seed, zlib.crc32(purpose.encode()), step, part, 0)
            with self.accelerator.autocast():
                found = loss(Draw(*key))
            (found.pop("loss") / self.recipe.accumulate).backward()
            for name, value in found.items():
                values[name] = values.get(name, 0.0) + float(value.detach()) / self.recipe.accumulate
        self._share(parameters)
        values = mean_over_processes(self.accelerator, values)
        norm = nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return {**values, f"{purpose.rstrip('0123456789')}_gradient": float(norm)}

    # ---- the networks ----------------------------------------------------------------------------------

    def _feature_shape(self) -> tuple[int, int]:
        x = torch.zeros(1, *self.teacher.shape, device=self.teacher.device)
        timestep = torch.zeros(1, dtype=torch.long, device=self.teacher.device)
        cond = self.teacher.encode([""])
        return critics.feature_shape(self.critic, lambda: self.teacher.predict("critic", x, timestep, cond))

    def _share(self, parameters: list[Tensor]) -> None:
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
            denoisers["averaged"] = copy.deepcopy(self.student).eval()
        module = denoisers["averaged"]
        with torch.no_grad():
            torch._foreach_copy_(trainable(module), self.average)
        return module

    def save(self, path: Path) -> None:
        """Write everything that a resumed run needs."""
        state = {
            "done": self.done,
            "processes": self.accelerator.num_processes,
            "student": [p.detach() for p in self.student_parameters],
            "average": self.average,
            "critic": self.critic.state_dict(),
            "head": self.head.state_dict(),
            "student_optimizer": self.student_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }
        save_checkpoint(state, path)

    def load(self, path: Path) -> int:
        """Go on from what :meth:`save` wrote; return the number of processes that it was trained by.

        Raises:
            SteerError: if the file is damaged, of other networks, or further than the recipe goes.
        """
        try:
            state = torch.load(path, map_location=self.teacher.device, weights_only=True)
            with torch.no_grad():
                torch._foreach_copy_(self.student_parameters, state["student"])
                torch._foreach_copy_(self.average, state["average"])
            self.critic.load_state_dict(state["critic"])
            self.head.load_state_dict(state["head"])
            self.student_optimizer.load_state_dict(state["student_optimizer"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
            self.done, processes = int(state["done"]), int(state.get("processes", self.accelerator.num_processes))
        except (OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, pickle.UnpicklingError) as error:
            reason = message_of(error, 120)
            raise SteerError(
                f"checkpoint {path} cannot be gone on from ({reason}); it is damaged or of another run: begin anew in "
                "another --out"
            ) from error
        if self.done > self.recipe.total:
            raise SteerError(
                f"the run in {path.parent} has taken {self.done} steps already, of {self.recipe.total} that were asked "
                f"for; give --steps {self.done - self.recipe.total + self.recipe.steps} or more"
            )
        return processes


def start_of(folder: str, teacher: Teacher) -> Chosen:
    """Return the student of a folder from whose weights another may begin; a LoRA is fused into them.

    Raises:
        SteerError: if it is none, or of another family.
    """
    if not Path(folder).expanduser().is_dir():
        raise SteerError(f"--start {folder} is no folder; expected one that `steer train dmd2` wrote (OUT/student)")
    return choose(DMD2Options(student=folder, steps=None, timesteps=None, weights=None), teacher.backbone)


def _optimizer(parameters: list[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)


def steps_left(trainer: Trainer) -> Iterator[int]:
    """Yield the steps that are still to take."""
    while trainer.done < trainer.recipe.total:
        yield trainer.done
