"""The locations of the published weights. Imported when rewards are registered, so it imports no torch.

Sizes are computed from the number of parameters and the published precision.
"""

import re
from pathlib import Path

from steer import SteerError
from steer.plugin import Needed, Repository, Weights, nearest

HPS = {
    "v2.1": Weights("xswu/HPSv2", "HPS_v2.1_compressed.pt", size=1_972_000_000, license="Apache-2.0"),
    "v2.0": Weights("xswu/HPSv2", "HPS_v2_compressed.pt", size=1_972_000_000, license="Apache-2.0"),
}
PICKSCORE = Weights("yuvalkirstain/PickScore_v1", "model.safetensors", size=3_944_000_000, license="MIT (of its code)")
AESTHETIC_CLIP = Weights(
    "openai/clip-vit-large-patch14", "model.safetensors", size=1_711_000_000, license="MIT (of its code)", option="clip"
)
AESTHETIC_HEAD = Weights(
    "trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth", size=3_714_000, license="Apache-2.0 (of its code)",
    option="head",
)  # fmt: skip
BERT = Weights("google-bert/bert-base-uncased", "vocab.txt", size=232_000, license="Apache-2.0", option="vocabulary")
IMAGEREWARD = Weights("THUDM/ImageReward", "ImageReward.pt", size=1_787_000_000, license="Apache-2.0")
BLIP_VQA = Weights(
    "Salesforce's research storage", "model_base_vqa_capfilt_large.pth", size=1_446_000_000, license="BSD-3-Clause",
    url="https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_base_vqa_capfilt_large.pth",
)  # fmt: skip
SOFT_TIFA, DSG = "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"
"""The models that GenEval 2 and OneIG-Bench ask."""
HPSV3 = Weights("MizzenAI/HPSv3", "HPSv3.safetensors", size=16_596_000_000, license="Apache-2.0; MIT (its code)")
QWEN2_VL_TOKENIZER = Weights(
    "Qwen/Qwen2-VL-7B-Instruct", "tokenizer.json", size=7_032_000, license="Apache-2.0", option="tokenizer"
)
CLIP_FLANT5 = {
    "xl": Repository("zhiqiulin/clip-flant5-xl", size=6_327_000_000, license="Apache-2.0"),
    "xxl": Repository("zhiqiulin/clip-flant5-xxl", size=22_926_000_000, license="Apache-2.0"),
}


def hps(argument: str | None) -> list[Weights]:
    """Return the weights of ``hps:VERSION``.

    Raises:
        SteerError: for an unknown version.
    """
    version = "v2.1" if argument is None else argument
    if version not in HPS:
        raise SteerError(f"hps has no version {version!r}{nearest(version, HPS)} (known: {', '.join(HPS)})")
    return [HPS[version]]


def clip(argument: str | None) -> list[Weights]:
    """Return the weights of ``clip:NAME/PRETRAINED``; none for the embedded CLIP and for folders.

    Raises:
        SteerError: for an unknown CLIP.
    """
    if argument is None:
        return []
    from steer_rewards.clip import find, weights_of

    needed = weights_of(find(argument))
    return [] if needed is None else [needed]


def blip_vqa(argument: str | None) -> list[Needed]:
    """Return the weights of ``da`` and ``bvqa``: BLIP's own, or those of ``da:ORG/MODEL`` in transformers' format.

    Raises:
        SteerError: for a name that is not a hub id.
    """
    if argument is None:
        return [BLIP_VQA, BERT]
    if Path(argument).expanduser().is_dir():
        return []
    if not _is_repository(argument):
        raise SteerError(
            f"da and bvqa have no model {argument!r}; expected ORG/MODEL of the hub such as Salesforce/blip-vqa-base, "
            "or a folder"
        )
    return [Repository(argument), BERT]


def vqa(argument: str | None) -> list[Needed]:
    """Return the weights of ``vqa:xl``, ``vqa:xxl`` or ``vqa:ORG/MODEL``; none for ``vqa:FOLDER``.

    Raises:
        SteerError: for a name that is not a hub id.
    """
    name = "xl" if argument is None else argument
    if name in CLIP_FLANT5:
        return [CLIP_FLANT5[name], flan_t5(name)]
    if Path(name).expanduser().is_dir():
        return []
    if not _is_repository(name):
        raise SteerError(
            f"vqa has no model {name!r}; expected {', '.join(CLIP_FLANT5)}, ORG/MODEL of the hub, or a folder"
        )
    return [Repository(name)]


def soft_tifa(argument: str | None) -> list[Needed]:
    """Return the weights of ``soft-tifa:ORG/MODEL``; none for a folder.

    Raises:
        SteerError: for a name that is not a hub id.
    """
    return _of_model("soft-tifa", argument or SOFT_TIFA)


def dsg(argument: str | None) -> list[Needed]:
    """Return the weights of ``dsg:ORG/MODEL``; none for a folder.

    Raises:
        SteerError: for a name that is not a hub id.
    """
    return _of_model("dsg", argument or DSG)


def _of_model(owner: str, name: str) -> list[Needed]:
    if Path(name).expanduser().is_dir():
        return []
    if not _is_repository(name):
        raise SteerError(f"{owner} has no model {name!r}; expected ORG/MODEL of the hub, or a folder")
    return [Repository(name)]


def flan_t5(size: str) -> Weights:
    """Return the tokenizer of a CLIP-FlanT5; all sizes have the same one, in different repositories."""
    size = size if size in CLIP_FLANT5 else "xl"
    return Weights(f"google/flan-t5-{size}", "tokenizer.json", size=2_424_000, license="Apache-2.0", option="tokenizer")


def _is_repository(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def no_argument(owner: str, argument: str | None, *, option: str = "weights") -> None:
    """Raise if a reward with only one model got an argument; ``option`` is the option for other weights."""
    if argument is not None:
        raise SteerError(
            f"{owner} takes no argument, got {argument!r}; for your own weights set -o {owner}.{option}=PATH"
        )
