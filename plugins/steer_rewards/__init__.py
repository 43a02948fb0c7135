"""First-party rewards, one small file each."""

from steer import hookimpl
from steer.plugin import Registry
from steer_rewards import catalog


@hookimpl
def steer_register(registry: Registry) -> None:
    """Register the rewards; nothing is imported yet."""
    registry.reward(
        "clip", "steer_rewards.clip:Clip", summary="image-text similarity in CLIP's space, 100·cos",
        weights="steer_rewards.catalog:clip",
    )  # fmt: skip
    registry.reward(
        "hps", "steer_rewards.hps:Hps", summary="human preference score: image-text similarity, trained on choices",
        weights="steer_rewards.catalog:hps",
    )  # fmt: skip
    registry.reward(
        "hpsv3", "steer_rewards.hpsv3:Hpsv3", summary="human preference by a 7B vision-language model",
        weights=[catalog.HPSV3, catalog.QWEN2_VL_TOKENIZER],
    )  # fmt: skip
    registry.reward(
        "pickscore", "steer_rewards.pickscore:PickScore", summary="predicts users' choices between images",
        weights=[catalog.PICKSCORE],
    )  # fmt: skip
    registry.reward(
        "aesthetic", "steer_rewards.aesthetic:Aesthetic", summary="predicts people's ratings of pictures; no prompt",
        weights=[catalog.AESTHETIC_HEAD, catalog.AESTHETIC_CLIP],
    )  # fmt: skip
    registry.reward(
        "jpeg", "steer_rewards.jpeg:Jpeg", summary="minus the JPEG size in kB; ignores the prompt, no gradient"
    )
    registry.reward("motion", "steer_rewards.motion:Motion", summary="video: how much lasts of what changes per frame")
    registry.reward("flicker", "steer_rewards.motion:Flicker", summary="video: minus the changes that are taken back")
    registry.reward(
        "imagereward", "steer_rewards.imagereward:ImageReward", summary="predicts people's rankings of images",
        weights=[catalog.IMAGEREWARD, catalog.BERT],
    )  # fmt: skip
    registry.reward(
        "vqa", "steer_rewards.vqa:Vqa", summary="VQAScore: P(Yes) that the image shows the prompt",
        weights="steer_rewards.catalog:vqa",
    )  # fmt: skip
    registry.reward(
        "da", "steer_rewards.da:Da", summary="DA-score: share of the prompt's assertions that BLIP-VQA affirms",
        weights="steer_rewards.catalog:blip_vqa",
    )  # fmt: skip
    registry.reward(
        "bvqa", "steer_rewards.bvqa:Bvqa", summary="BLIP-VQA: does the image show everything that the prompt names?",
        weights="steer_rewards.catalog:blip_vqa",
    )  # fmt: skip
    registry.reward(
        "ocr", "steer_rewards.ocr:Ocr", summary="can the texts that the prompt quotes be read in the image?"
    )
    registry.reward(
        "soft-tifa", "steer_rewards.soft_tifa:SoftTifa",
        summary="Soft-TIFA: probability of right answers to a prompt's questions",
        weights="steer_rewards.catalog:soft_tifa",
    )  # fmt: skip
    registry.reward(
        "dsg", "steer_rewards.soft_tifa:Dsg", summary="share of a prompt's yes-no questions that are answered yes",
        weights="steer_rewards.catalog:dsg",
    )  # fmt: skip
