"""Shared parts of plugins' trainings: the loop, command-line options, checkpoints and exports."""

from typing import TYPE_CHECKING

from steer.registry.facade import lazily

if TYPE_CHECKING:  # imported at first use: listing plugins or printing help must not wait for torch
    # isort: off
    # Running a training
    from steer.training.loop import fit as fit  # the training loop
    from steer.training.machine import start as start  # devices, processes and precision of a training
    from steer.training.machine import Machine as Machine  # the device of this process, and the other processes
    from steer.training.checkpoints import RunFolder as RunFolder  # recipe, checkpoint, log and sheets of a run
    from steer.training.checkpoints import older_run as older_run  # the error for a folder that an old steer trained in
    from steer.training.checkpoints import read_checkpoint as read_checkpoint  # the checkpoint of a run
    from steer.training.recipe import TrainingRecipe as TrainingRecipe  # everything that decides the weights
    from steer.training.recipe import Watch as Watch  # the steps between checkpoints, measurements and log rows
    from steer.training.display import Display as Display  # shows a run's progress; `steer.plugin.Bar` is one
    from steer.training.options import training_options as training_options  # the options that all trainings have
    from steer.training.options import TrainingOptions as TrainingOptions  # their values
    from steer.training.options import option as option  # an option of click whose help says its default
    from steer.training.options import positive as positive  # a check for an option of click: a number above 0

    # What is trained
    from steer.training.task import Task as Task  # networks, and the losses of every step
    from steer.training.task import Part as Part  # networks that one optimizer trains
    from steer.training.task import Update as Update  # one update of a part
    from steer.training.task import adamw as adamw  # the optimizer
    from steer.training.schedules import warmup_cosine as warmup_cosine  # the learning rate of a step
    from steer.training.draws import Draw as Draw  # generators keyed by seed, purpose and step

    # Networks split over the processes
    from steer.training.sharding import whole as whole  # a tensor with the shares of all processes

    # Writing
    from steer.training.checkpoints import save_checkpoint as save_checkpoint  # tensors and data, whole or not at all
    from steer.training.files import write_whole as write_whole  # a file, whole or not at all
    from steer.training.files import replaced_folder as replaced_folder  # a folder, whole or not at all
    # isort: on

__all__, __getattr__ = lazily(__name__)
