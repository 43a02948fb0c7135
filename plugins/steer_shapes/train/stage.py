"""The base of the stages: a recipe, and one update of all modules per step."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steer.training import Draw, Machine, Part, Task, TrainingRecipe, Update, adamw, save_checkpoint, warmup_cosine


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainingRecipe):
    """The length and learning rate of a stage's training.

    Attributes:
        warmup: steps of the linear warm-up before the cosine.
        weight_decay: of matrices and kernels; vectors have none.
    """

    warmup: int = 100
    weight_decay: float = 0.01


class Stage(Task):
    """Training of one shapes model. Its networks run on the machine's device, everything else on the CPU.

    Attributes:
        vae: the frozen autoencoder; ``None`` in the stage that trains it.
        split: names of the modules that can be split over processes; losses call these.
    """

    split: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    @abstractmethod
    def build() -> nn.ModuleDict:
        """Return the untrained modules."""

    def __init__(self, recipe: Recipe, machine: Machine, vae: Any, folder: Path) -> None:
        """Build the modules; the autoencoder must be on the machine's device."""
        self.recipe, self.machine, self.vae, self.folder = recipe, machine, vae, folder
        torch.manual_seed(recipe.seed)
        self.modules = self.build().to(machine.device).train()
        for name in self.split:
            machine.shard(self.modules.get_submodule(name))
        optimizer = adamw(
            self.modules,
            recipe.rate,
            weight_decay=recipe.weight_decay,
            matrices_only=True,
            fused=True,
            bits=recipe.adam_bits,
        )
        self.part = Part(self.modules, optimizer)
        self.parts = {"modules": self.part}

    def cached(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return tensors and plain data that are made once and kept in the run's folder, by the first process."""
        path = self.folder / name
        with self.machine.main_process_first():
            if not path.exists():
                save_checkpoint(make(), path)
        data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return data

    @abstractmethod
    def losses(self, draw: Draw) -> dict[str, Tensor]:
        """Return losses and metrics of one batch of fresh data; ``"loss"`` is minimized."""

    def updates(self, step: int) -> Iterator[Update]:
        """Yield one update; its rate is warmed up and then lowered along a cosine."""
        recipe = self.recipe
        rate = warmup_cosine(step, steps=recipe.steps, warmup=recipe.warmup, peak=recipe.rate)
        yield Update("modules", rate, lambda part: self.losses(Draw(recipe.seed, self.name, step, part)))

    def averaged(self) -> nn.ModuleDict:
        """Return new modules with averaged weights, for inference on the CPU."""
        modules = self.build()
        modules.load_state_dict(self.part.whole_average())
        return modules.eval()
