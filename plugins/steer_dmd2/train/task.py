"""DMD2 as a training task (arXiv 2405.14867): student and critic on two time scales, a GAN, backward simulation."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from steer import Prompt, SteerError
from steer.plugin import WeightedSum
from steer.training import Draw, Machine, Part, Task, Update, adamw
from steer_dmd2.loading import Chosen, choose, denoiser
from steer_dmd2.options import DMD2Options
from steer_dmd2.train import critic as critics
from steer_dmd2.train import validation
from steer_dmd2.train.data import Dataset
from steer_dmd2.train.discriminator import PENALIZED, Discriminator
from steer_dmd2.train.objectives import Objectives
from steer_dmd2.train.recipe import Recipe
from steer_dmd2.train.teacher import Teacher

AVERAGED_ON_DEVICE = 1 << 30
"""Bytes of trained weights up to which their average is beside them; that of larger ones is kept on the CPU."""


class DMD2Task(Task):
    """Trains a student, a critic with its head, and for the GAN on images a discriminator."""

    name = "dmd2"

    def __init__(
        self,
        recipe: Recipe,
        teacher: Teacher,
        data: Dataset,
        machine: Machine,
        *,
        pairs: dict[str, Tensor] | None = None,
        start: Chosen | None = None,
        trunk: Callable[[], nn.Module] | None = None,
        prompts: Sequence[Prompt] = (),
        reward: WeightedSum | None = None,
    ) -> None:
        """Make student and critic from the teacher.

        Args:
            teacher: on the device to train on.
            data: captions, and images for the GAN if there are any.
            machine: from :func:`steer.training.start`.
            pairs: from :func:`steer_dmd2.train.pairs.make`, if the recipe begins with a regression. If the data has no
                images, the GAN takes the pairs' samples as real.
            start: from :func:`start_of`; the student starts from these weights instead of the teacher's.
            trunk: makes features of images for the discriminator to begin from.
            prompts: validation prompts; by default captions of the data.
        """
        self.recipe, self.teacher, self.machine, self.reward = recipe, teacher, machine, reward
        captions = dict.fromkeys(data.captions[:64])
        self.prompts = list(prompts) or [Prompt(text, id=str(i)) for i, text in enumerate(captions)]
        torch.manual_seed(recipe.seed)
        self.student = teacher.copy("student", recipe.lora)
        if start is not None:
            self.student.load_state_dict(denoiser(start, teacher.backbone, start.file()).state_dict())
        _place(self.student, machine)  # before the next copy is made: a GPU need not hold two whole ones
        critic = teacher.copy("critic", recipe.critic_lora)
        head = critics.Head(*_feature_shape(teacher, critic)).to(teacher.device)
        _place(critic, machine)
        machine.shard(head)
        _place(teacher.backbone.denoisers["base"], machine)
        discriminator = _discriminator(teacher, trunk) if recipe.pixel_gan else None
        self.objectives = Objectives(recipe, teacher, data, pairs, critic, head, discriminator)
        judges = nn.ModuleDict({"critic": critic, "head": head})
        bits = recipe.adam_bits
        trained = sum(parameter.nbytes for parameter in self.student.parameters() if parameter.requires_grad)
        aside = torch.device("cpu") if trained > AVERAGED_ON_DEVICE else None
        self.parts: dict[str, Part] = {
            "student": Part(self.student, adamw(self.student, recipe.rate, fused=True, bits=bits), average_on=aside),
            "critic": Part(judges, adamw(judges, recipe.critic_rate, fused=True, bits=bits), averaged=False),
        }
        if discriminator is not None:
            optimizer = adamw(discriminator, recipe.pixel_gan_rate, betas=(0.5, 0.99), weight_decay=0.0, fused=True)
            self.parts["discriminator"] = Part(discriminator, optimizer, averaged=False)

    def phase(self, step: int) -> str:
        """Return ``"regression"``, ``"critic"`` or ``"matching"``."""
        return self.recipe.phase(step)

    def updates(self, step: int) -> Iterator[Update]:
        """Yield one update of the student, then those of the critic, and one of the discriminator if there is one.

        The phases before matching have fewer.
        """
        phase, objectives = self.recipe.phase(step), self.objectives
        if phase != "critic":
            loss = objectives.regression if phase == "regression" else objectives.matching
            yield Update("student", self.recipe.rate_at(step), self._losses(loss, "student", step))
        if phase != "regression":
            for index in range(1 if phase == "critic" else self.recipe.ratio):
                losses = self._losses(objectives.criticism, f"critic{index}", step)
                yield Update("critic", self.recipe.critic_rate, losses)
            if self.recipe.pixel_gan:
                discrimination = partial(objectives.discrimination, penalized=step % PENALIZED == 0)
                losses = self._losses(discrimination, "discriminator", step)
                yield Update("discriminator", self.recipe.pixel_gan_rate, losses)

    def _losses(
        self, loss: Callable[[Draw], dict[str, Tensor]], purpose: str, step: int
    ) -> Callable[[int], dict[str, Tensor]]:
        def of(part: int) -> dict[str, Tensor]:
            with self.machine.autocast():
                return loss(Draw(self.recipe.seed, purpose, step, part, 0))

        return of

    def sheet(self, path: Path) -> dict[str, float]:
        """Draw the validation prompts as ``--plugin dmd2`` does; score them if there is a reward."""
        with self.parts["student"].averaged():
            images = validation.sample(
                self.teacher, "student", self.recipe.timesteps, self.prompts, self.machine.autocast
            )
        return validation.validate(images, self.prompts, self.reward, path)


def _place(denoiser: nn.Module, machine: Machine) -> None:
    """Lay a denoiser out for its device, and split it if this training does so."""
    if machine.device.type == "cpu":
        denoiser.to(memory_format=torch.channels_last)
    machine.shard(denoiser)


def _feature_shape(teacher: Teacher, critic: nn.Module) -> tuple[int, int]:
    x = torch.zeros(1, *teacher.shape, device=teacher.device)
    timestep = torch.zeros(1, dtype=torch.long, device=teacher.device)
    cond = teacher.encode([""])
    return critics.feature_shape(critic, x, lambda: teacher.predict("critic", x, timestep, cond))


def _discriminator(teacher: Teacher, trunk: Callable[[], nn.Module] | None) -> Discriminator:
    width = teacher.encode([""]).cond["text"].shape[-1]
    return Discriminator(teacher.size, width, trunk and trunk()).to(teacher.device)


def start_of(folder: str, teacher: Teacher) -> Chosen:
    """Return the student in a folder, for another student to start from; a LoRA is fused into its weights.

    Raises:
        SteerError: if the folder holds no student, or one of another family.
    """
    if not Path(folder).expanduser().is_dir():
        raise SteerError(f"--start {folder} is not a folder; expected one written by `steer train dmd2` (OUT/student)")
    return choose(DMD2Options(student=folder, steps=None, timesteps=None, weights=None), teacher.backbone)
