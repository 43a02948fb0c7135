"""``--attention`` for every family: it takes effect, or is refused in one line that names what the family takes."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from support.families import Family, all_families

from steer import Prompt, SteerError
from steer.models.attention import attentions_of, set_attention
from steer.models.load import load_model
from steer.models.options import ModelOptions, denoiser_of
from steer.registry.plugins import manager
from steer.sampling.hooks import make_run

CPU = torch.device("cpu")
NAMES = [backend.value for backend in AttentionBackendName]
TAKE_ALL = {"flux-dev", "flux2", "qwen-image", "z-image"}
TAKE_XFORMERS = {"sd", "sdxl", "sd3", "pixart-sigma"}  # the switch would replace Sana's linear attention by another
EACH = [family for family in all_families() if family.name in TAKE_ALL | TAKE_XFORMERS | {"sana"}]

each_family = pytest.mark.parametrize("family", EACH, ids=lambda family: family.name)


def chosen(module: Any) -> list[tuple[Any, Any]]:
    """Return what each layer computes its attention with."""
    processors = [part.processor for part in module.modules() if hasattr(part, "processor")]
    return [(processor, getattr(processor, "_attention_backend", None)) for processor in processors]


@pytest.mark.slow
@each_family
def test_every_name_takes_effect_or_is_refused_in_one_line(family: Family) -> None:
    module, active = denoiser_of(family.make()), _AttentionBackendRegistry._active_backend
    taken = attentions_of(module)
    assert taken == (NAMES if family.name in TAKE_ALL else ["native", "xformers"][: 1 + (family.name in TAKE_XFORMERS)])
    possible = []
    for name in [*NAMES, "flashy"]:
        before = chosen(module)
        try:
            set_attention(module, name, CPU)
        except SteerError as error:
            said = str(error)
            assert chosen(module) == before
            assert "\n" not in said and name in said
            assert (name in taken) == ("is not possible here, on cpu" in said)
            assert (name not in taken) == ("it takes " in said and "native" in said)
        else:
            possible.append(name)
            assert family.name not in TAKE_ALL or {backend for _, backend in chosen(module)} == {name}
    assert "native" in possible and (family.name not in TAKE_ALL or "_native_math" in possible)
    assert _AttentionBackendRegistry._active_backend == active  # other models compute as before


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in EACH if family.name in TAKE_ALL], ids=lambda one: one.name)
def test_the_model_computes_with_what_was_asked_for(family: Family, monkeypatch) -> None:
    kind, calls = AttentionBackendName._NATIVE_MATH, []
    original = _AttentionBackendRegistry._backends[kind]

    @functools.wraps(original)
    def counted(*arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        return original(*arguments, **keywords)

    monkeypatch.setitem(_AttentionBackendRegistry._backends, kind, counted)
    backbone = load_model(family.make(), manager(), options=ModelOptions(attention="_native_math")).backbone
    for name, value in family.backbone.items():
        monkeypatch.setattr(type(backbone), name, value)
    size = {} if family.size is None else {"width": family.size[0], "height": family.size[1]}
    before = len(calls)
    run = make_run(backbone, [Prompt(family.texts[0], seed=1)], settings={**family.plain, **size, "steps": 2})
    assert torch.isfinite(run.search().x).all() and len(calls) > before
