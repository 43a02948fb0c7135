"""What is particular to the families that read texts of any length: Qwen-Image and Z-Image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families.qwen_image import tiny_qwen_image
from support.families.z_image import tiny_z_image

from steer import SteerError
from steer.models.backbone import Backbone
from steer.models.load import load_model
from steer.prompts.prompt import Prompt
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

ROOM = {"qwen-image": 512, "z-image": 512 - 3}
"""Tokens of a prompt that the model sees: Z-Image counts the three that begin its chat."""


@pytest.fixture(scope="module", params=[tiny_qwen_image, tiny_z_image], ids=["qwen-image", "z-image"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def backbone(pipe: Any) -> Backbone:
    return load_model(pipe, manager()).backbone


def test_a_text_beyond_the_room_is_cut_where_the_warning_says(
    backbone: Backbone, request: pytest.FixtureRequest, recwarn: pytest.WarningsRecorder
) -> None:
    room = ROOM[request.node.callspec.id]
    full = ["a"] + ["red"] * (room - 1)
    kept, _ = backbone.encode_one(Prompt(" ".join(full)), None)
    assert not [w for w in recwarn if "cut off" in str(w.message)]
    with pytest.warns(UserWarning, match=r"cut off: ' blue circle'"):
        cut, _ = backbone.encode_one(Prompt(" ".join([*full, "blue", "circle"])), None)
    assert kept["text"].shape == cut["text"].shape
    assert torch.allclose(kept["text"], cut["text"], atol=1e-4)  # a longer text goes through other kernels
    assert int(cut["length"]) == cut["text"].shape[1] == 512


def test_rows_of_one_forward_have_one_prompt_and_no_padding(backbone: Backbone) -> None:
    lengths = []
    encoder_width = backbone.encode_one(Prompt("a"), None)[0]["text"].shape[-1]

    def note(module: torch.nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        given = keywords.get("encoder_hidden_states", arguments[-1] if arguments else None)
        texts = [text for text in given if text.shape[-1] == encoder_width]
        lengths.append({tuple(text.shape) for text in texts})
        assert all(bool((text != 0).any(dim=-1).all()) for text in texts)

    handle = backbone.denoisers["base"].register_forward_pre_hook(note, with_kwargs=True)
    prompts = [Prompt("a red circle", seed=1), Prompt("a blue square and a circle", seed=2)]
    settings = {"steps": 2, "particles": 3, "chunk": 2, "width": 16, "height": 16, "guidance_scale": 0.0}
    make_run(backbone, prompts, settings=settings).search()
    handle.remove()
    assert all(len(shapes) == 1 for shapes in lengths)
    assert len(set().union(*lengths)) == 2
    assert len(lengths) == 2 * (2 + 2)  # two steps of two chunks a prompt, the second of them padded


def test_a_guidance_embedding_that_diffusers_lacks_is_refused() -> None:
    pipe = tiny_qwen_image()
    pipe.transformer.register_to_config(guidance_embeds=True)
    with pytest.raises(SteerError, match="guidance_embeds is not supported"):
        load_model(pipe, manager())


def test_schedules_that_do_not_exist_are_refused() -> None:
    backbone = load_model(tiny_qwen_image(), manager()).backbone
    size = {"width": 16, "height": 16}
    with pytest.raises(SteerError, match="steps=1 is not possible with a schedule that is stretched"):
        make_run(backbone, [Prompt("a")], settings={"steps": 1, **size}).search()
    for name in ("flow-dpm++", "flow-unipc"):
        with pytest.raises(SteerError, match="takes no explicit timesteps; use --scheduler flow-euler"):
            make_run(backbone, [Prompt("a")], settings={"timesteps": (900, 500), "scheduler": name, **size}).search()
