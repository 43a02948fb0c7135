"""The nodes' inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from steer import Prompt, SteerError
from steer.plugin import check_owners, json_text, make_methods, manager
from steer_comfyui.choosing import above, best, check_scores, rows_of
from steer_comfyui.rewards import check_reward, load_reward, parsed, scores_of
from steer_comfyui.sampling import STOCHASTIC, Settings, sampled

REWARD = "STEER_REWARD"
TEXT = ("STRING", {"multiline": True, "default": ""})
PROMPT = ("STRING", {"multiline": True, "tooltip": "The text that the reward scores by; connect that of positive."})
OPTIONS = ("STRING", {"multiline": True, "default": "", "tooltip": "NAME.OPTION=VALUE, one per line."})
FOLDER = "models/steer"
"""The folder of ComfyUI whose Python files may be rewards."""


def _files() -> Path:
    import folder_paths

    return Path(folder_paths.models_dir) / Path(FOLDER).name


def _blocked(message: str | None) -> Any:
    """Return an output in the place of none: what it is connected to is left out, or fails with a message."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(message)


class _Node:
    CATEGORY = "steer"
    FUNCTION = "run"


class RewardLoader(_Node):
    """Loads a reward."""

    DESCRIPTION = "A reward, or a sum of them, as steer's --reward takes it: hps:2+clip. `steer plugins` lists them."
    RETURN_TYPES = (REWARD,)
    RETURN_NAMES = ("reward",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return {
            "required": {
                "reward": ("STRING", {"default": "clip"}),
                "device": (["auto", "cpu", *gpus],),
                "offload": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "Wait on the CPU between scorings, to leave memory to the models."},
                ),
            },
            "optional": {"options": OPTIONS},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, reward: str | None = None, options: str | None = None) -> bool | str:  # noqa: N802
        """Return what is wrong with the texts, before anything runs; linked ones are not known yet."""
        if reward is None:
            return True
        try:
            check_reward(reward, options or "", _files())
        except SteerError as error:
            return str(error)
        return True

    def run(self, reward: str, device: str, offload: bool, options: str = "") -> tuple[Any]:
        return (load_reward(reward, options, device, _files(), offload=offload),)


class Score(_Node):
    """Scores images."""

    DESCRIPTION = "Scores each image of a batch; higher is better."
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("images", "scores", "text")
    OUTPUT_IS_LIST = (False, True, False)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"images": ("IMAGE",), "reward": (REWARD,), "prompt": PROMPT}}

    def run(self, images: Any, reward: Any, prompt: str) -> tuple[Any, list[float], str]:
        scores = scores_of(reward, images, prompt)
        return images, scores, "\n".join(f"{score:.6g}" for score in scores)


class _Choice(_Node):
    RETURN_TYPES = ("IMAGE", "LATENT", "FLOAT")
    RETURN_NAMES = ("images", "latent", "scores")
    INPUT_IS_LIST = True  # the scores are a list
    OUTPUT_IS_LIST = (False, False, True)
    OWN: ClassVar[dict[str, Any]] = {}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        scored = {"images": ("IMAGE",), "scores": ("FLOAT", {"forceInput": True})}
        return {"required": {**scored, **cls.OWN}, "optional": {"latent": ("LATENT",)}}

    @staticmethod
    def images_of(images: list[Any], scores: list[float]) -> Any:
        """Return the one batch of images that the scores are of."""
        if len(images) != 1:
            raise SteerError(f"got a list of {len(images)} batches of images; give one batch")
        check_scores(scores, len(images[0]))
        return images[0]

    @staticmethod
    def chosen(images: Any, scores: list[float], latent: Any, rows: list[int]) -> tuple[Any, Any, list[float]]:
        kept = _blocked("connect the latent of the images") if latent is None else rows_of(latent[0], rows)
        return images[torch.tensor(rows, dtype=torch.int64)], kept, [scores[row] for row in rows]


class TakeBest(_Choice):
    """Takes the n best images."""

    DESCRIPTION = "The n images of highest score, best first, and their latents."
    OWN: ClassVar = {"n": ("INT", {"default": 1, "min": 1, "max": 65_536})}

    def run(self, images: Any, scores: list[float], n: list[int], latent: Any = None) -> tuple[Any, Any, list[float]]:
        return self.chosen(self.images_of(images, scores), scores, latent, best(scores, n[0]))


class Threshold(_Choice):
    """Keeps images from a score up."""

    DESCRIPTION = "The images whose score is at least the threshold, in order. if_none: stop, take the best, or skip."
    OWN: ClassVar = {
        "threshold": ("FLOAT", {"default": 0.0, "min": -1e9, "max": 1e9, "step": 0.001}),
        "if_none": (["error", "best", "skip"],),
    }

    def run(
        self, images: Any, scores: list[float], threshold: list[float], if_none: list[Any], latent: Any = None
    ) -> tuple[Any, Any, list[Any]]:
        batch, rows = self.images_of(images, scores), above(scores, threshold[0], if_none[0])
        if not rows:
            nothing = _blocked(None)
            return nothing, nothing, [nothing]
        return self.chosen(batch, scores, latent, rows)


class _Sampler(_Node):
    METHOD = ""
    RETURN_TYPES = ("LATENT", "IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("latent", "images", "scores", "report")
    OUTPUT_IS_LIST = (False, False, True, False)
    OWN: ClassVar[dict[str, Any]] = {}

    @classmethod
    def samplers(cls, known: list[str]) -> list[str]:
        return known

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        from comfy.samplers import KSampler

        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "latent_image": ("LATENT", {"tooltip": "One latent; the sampler makes its own batch."}),
                "vae": ("VAE",),
                "reward": (REWARD,),
                "prompt": PROMPT,
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1, "control_after_generate": True}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 10_000}),
                "cfg": ("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "sampler_name": (cls.samplers(list(KSampler.SAMPLERS)),),
                "scheduler": (list(KSampler.SCHEDULERS),),
                "denoise": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 1.0, "step": 0.01}),
                **cls.OWN,
                "keep": ("INT", {"default": 1, "min": 1, "max": 1024, "tooltip": "Images to return, best first."}),
            },
            "optional": {"options": OPTIONS},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, options: str | None = None) -> bool | str:  # noqa: N802
        """Return what is wrong with the options, before anything runs."""
        try:
            methods = make_methods([cls.METHOD], values := parsed(options or ""), manager())
            check_owners(values, methods, [])
        except SteerError as error:
            return str(error)
        return True

    def sampled(
        self, own: dict[str, Any], particles: int, prompt: str, seed: int, reward: Any, keep: int, options: str,
        **settings: Any,
    ) -> tuple[Any, Any, list[float], str]:  # fmt: skip
        values = parsed(options)
        values[self.METHOD] = {**own, **values.get(self.METHOD, {})}
        outcome = sampled(
            Settings(**settings), Prompt(prompt, seed=seed), reward, self.METHOD, values, particles=particles, keep=keep
        )
        return outcome.latent, outcome.images, outcome.scores, json_text(outcome.report)


class FKSampler(_Sampler):
    """Samples with FK steering."""

    METHOD = "fk"
    DESCRIPTION = "FK steering: particles, resampled on the way by the reward of their predicted images."
    OWN: ClassVar = {
        "particles": ("INT", {"default": 4, "min": 2, "max": 1024, "tooltip": "Images that are sampled together."}),
        "strength": ("FLOAT", {"default": 10.0, "min": 0.0, "max": 1e6, "tooltip": "fk.lambda, the tilt"}),
        "potential": (["max", "diff", "add", "rt", "adaptive"], {"tooltip": "fk.potential: which past rewards count."}),
    }  # fmt: skip

    @classmethod
    def samplers(cls, known: list[str]) -> list[str]:
        return [name for name in known if name in STOCHASTIC]

    def run(
        self, particles: int, strength: float, potential: str, options: str = "", **given: Any
    ) -> tuple[Any, Any, list[float], str]:
        own = {"lambda": strength, "potential": potential}
        return self.sampled(own, particles, options=options, **given)


class BestOfNSampler(_Sampler):
    """Samples the best of n."""

    METHOD = "best-of-n"
    DESCRIPTION = "The best of n samples, whose seeds are seed, seed+1, …; memory does not grow with n."
    OWN: ClassVar = {
        "n": ("INT", {"default": 8, "min": 1, "max": 65_536}),
        "at_once": ("INT", {"default": 4, "min": 1, "max": 1024, "tooltip": "Images that are sampled together."}),
    }

    def run(
        self, n: int, at_once: int, keep: int, options: str = "", **given: Any
    ) -> tuple[Any, Any, list[float], str]:
        own = {"n": n, "keep": keep}
        return self.sampled(own, min(n, at_once), keep=keep, options=options, **given)


NODE_CLASS_MAPPINGS = {
    "SteerRewardLoader": RewardLoader,
    "SteerScore": Score,
    "SteerTakeBest": TakeBest,
    "SteerThreshold": Threshold,
    "SteerFKSampler": FKSampler,
    "SteerBestOfNSampler": BestOfNSampler,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SteerRewardLoader": "Load reward (steer)",
    "SteerScore": "Score images (steer)",
    "SteerTakeBest": "Take best n (steer)",
    "SteerThreshold": "Keep above threshold (steer)",
    "SteerFKSampler": "FK sampler (steer)",
    "SteerBestOfNSampler": "Best-of-n sampler (steer)",
}
