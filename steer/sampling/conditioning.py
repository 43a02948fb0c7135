"""Encoding a run's prompts and settings into the model's conditioning."""

import math
import warnings
from collections.abc import Sequence

from steer.errors import SteerError
from steer.models.backbone import Backbone
from steer.models.encoded_prompts import Conditioning
from steer.prompts.prompt import Prompt
from steer.sampling.resolved_settings import Choices
from steer.settings.run_settings import check_modality


def encode(backbone: Backbone, choices: Choices, prompts: Sequence[Prompt]) -> Conditioning:
    """Encode the prompts and their negative prompts.

    Raises:
        SteerError: for a kind of guidance that the model does not have.
    """
    negative = [str(prompt.metadata.get("negative", choices.get("negative"))) for prompt in prompts]
    setting = backbone.cfg_setting
    scale = float(choices.get(setting))
    if backbone.guider is not None and not backbone.guided(scale):
        raise SteerError(f"there is nothing for a guider to combine: {_why_unguided(backbone, choices, scale)}")
    if any(negative):
        check_modality("negative", backbone.modality)
        if not backbone.guided(scale):
            why = _why_unguided(backbone, choices, scale)
            warnings.warn(f"the negative prompt has no effect: {why}", stacklevel=2)
    if setting == "true_cfg_scale":
        return backbone.encode(prompts, negative, scale, embedded_scale=float(choices.get("guidance_scale")))
    if choices.get("true_cfg_scale") != 1:
        raise SteerError(
            f"true_cfg_scale={choices.get('true_cfg_scale'):g} is for models that take guidance_scale as an input "
            f"(Flux); {type(backbone).__name__} is guided by guidance_scale: use --guidance"
        )
    return backbone.encode(prompts, negative, scale)


def _why_unguided(backbone: Backbone, choices: Choices, scale: float) -> str:
    setting = backbone.cfg_setting
    if not backbone.guided(math.inf):
        return "this model is never guided; leave it out"
    by = (choices.required(setting) or (scale, "you"))[1]
    if by != "you":
        return f"{by} needs {setting}={scale:g}; leave it out"
    option = {"guidance_scale": "--guidance", "true_cfg_scale": "--true-cfg"}[setting]
    return f"guidance is off at {setting}={scale:g}; raise {option}"
