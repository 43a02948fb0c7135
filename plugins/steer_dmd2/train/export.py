"""Write the averaged student as a folder for ``--plugin dmd2``."""

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from steer.training import whole, write_whole
from steer_dmd2.student import WEIGHTS, Student, plain_name, write_card
from steer_dmd2.train.task import DMD2Task


def export(task: DMD2Task, folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write the weights in half precision and the card; return the folder.

    All processes call this, the first one writes.
    """
    module, recipe = task.student, task.recipe
    with task.parts["student"].averaged():
        if recipe.lora:
            from peft.utils import get_peft_model_state_dict

            state = get_peft_model_state_dict(module, adapter_name="dmd2")
            part = "unet" if hasattr(task.teacher.backbone.pipe, "unet") else "transformer"
            state = {f"{part}.{name}": value for name, value in state.items()}
        else:
            state = module.state_dict()
        state = {name: whole(value.detach()) for name, value in state.items()}
        if not task.machine.is_main_process:
            return folder
        tensors = {name: value.to("cpu", dtype, copy=True).contiguous() for name, value in state.items()}
    kind = task.teacher.schedule.prediction_type
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path))
    student = Student(
        family=type(task.teacher.backbone.pipe).__name__,
        base=plain_name(recipe.teacher),
        schedules={len(recipe.timesteps): recipe.timesteps},
        form="lora" if recipe.lora else "unet",
        guidance_scale=recipe.guidance_scale,
        prediction=None if kind == "flow" else kind,  # a flow is known by its family
        training=asdict(recipe)
        | {"teacher": plain_name(recipe.teacher), "data": plain_name(recipe.data)}
        | ({"start": plain_name(recipe.start)} if recipe.start else {}),
    )
    write_card(student, folder)
    return folder
