"""Shared parts of plugins' trainings: the loop, command-line options, checkpoints and exports."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steer.training.checkpoints import RunFolder as RunFolder
    from steer.training.checkpoints import older_run as older_run
    from steer.training.checkpoints import read_checkpoint as read_checkpoint
    from steer.training.checkpoints import save_checkpoint as save_checkpoint
    from steer.training.display import Display as Display
    from steer.training.draws import Draw as Draw
    from steer.training.files import replaced_folder as replaced_folder
    from steer.training.files import write_whole as write_whole
    from steer.training.loop import fit as fit
    from steer.training.machine import start as start
    from steer.training.options import TrainingOptions as TrainingOptions
    from steer.training.options import option as option
    from steer.training.options import positive as positive
    from steer.training.options import training_options as training_options
    from steer.training.recipe import TrainingRecipe as TrainingRecipe
    from steer.training.recipe import Watch as Watch
    from steer.training.schedules import warmup_cosine as warmup_cosine
    from steer.training.task import Part as Part
    from steer.training.task import Task as Task
    from steer.training.task import Update as Update
    from steer.training.task import adamw as adamw

# Loaded at first use: listing plugins or printing help must not wait for torch.
_HOMES = {
    # Running a training
    "fit": "steer.training.loop",  # the training loop
    "start": "steer.training.machine",  # devices, processes and precision of a training
    "RunFolder": "steer.training.checkpoints",  # recipe, checkpoint, log and sheets of a run
    "older_run": "steer.training.checkpoints",  # the error for a folder that an older steer trained in
    "read_checkpoint": "steer.training.checkpoints",  # the checkpoint of a run
    "TrainingRecipe": "steer.training.recipe",  # everything that decides the weights
    "Watch": "steer.training.recipe",  # the steps between checkpoints, measurements and log rows
    "Display": "steer.training.display",  # shows a run's progress; `steer.plugin.Bar` is one
    "training_options": "steer.training.options",  # the command-line options that all trainings have
    "TrainingOptions": "steer.training.options",  # their values
    "option": "steer.training.options",  # an option of click whose help says its default
    "positive": "steer.training.options",  # a check for an option of click: a number above 0
    # What is trained
    "Task": "steer.training.task",  # networks, and the losses of every step
    "Part": "steer.training.task",  # networks that one optimizer trains
    "Update": "steer.training.task",  # one update of a part
    "adamw": "steer.training.task",  # the optimizer
    "warmup_cosine": "steer.training.schedules",  # the learning rate of a step
    "Draw": "steer.training.draws",  # generators keyed by seed, purpose and step
    # Writing
    "save_checkpoint": "steer.training.checkpoints",  # tensors and plain data, whole or not at all
    "write_whole": "steer.training.files",  # a file, whole or not at all
    "replaced_folder": "steer.training.files",  # a folder, whole or not at all
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
