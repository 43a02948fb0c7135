"""A prompt's own settings and options: they hold for it alone, and an image is what it is without its neighbors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.tiny import brightness

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.sampling.packs import group_alike, halves, pack_size
from steer.sampling.sampler import Sampler

BASE = {"steps": 4, "methods": ["fk"], "reward": brightness, "particles": 2, "chunk": 4, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def sampler(tiny_pipe) -> Sampler:
    return Sampler(tiny_pipe)


@pytest.mark.slow
def test_own_settings_are_those_of_a_run_of_their_own(sampler: Sampler) -> None:
    own = {"steps": 3, "width": 32, "height": 16, "guidance_scale": 2.0, "particles": 3}
    prompts = [
        Prompt("a red circle", id="plain"),
        Prompt("a red circle", id="own", settings=own, options={"fk": {"lambda": 3.0}}),
        Prompt("a blue square", id="other"),
    ]
    together = sampler.generate(prompts, **BASE)
    assert [item.prompt.id for item in together.items] == ["plain", "own", "other"]
    (alone,) = sampler.generate(
        [Prompt("a red circle", id="own")], **{**BASE, **own}, options={"fk": {"lambda": 3.0}}
    ).items
    item = together.items[1]
    assert item.images[0].size == (32, 16)
    assert np.array_equal(np.asarray(item.images[0]), np.asarray(alone.images[0]))
    assert (item.recipe.settings, item.recipe.options) == (alone.recipe.settings, alone.recipe.options)
    assert together.items[0].recipe.settings["steps"] == 4 and together.items[0].recipe.options == {}
    json.dumps(item.recipe.as_dict())


def test_a_mistake_in_own_settings_names_the_prompt(sampler: Sampler) -> None:
    for own, said in (
        ({"settings": {"particles": 1}}, "prompt 'p2': "),
        ({"options": {"fk": {"lamda": 1}}}, "prompt 'p2': .*lambda"),
        ({"options": {"clip": {"x": 1}}}, "prompt 'p2': .*not active"),
        ({"id": None, "settings": {"particles": 1}}, "prompt 'a': "),
    ):
        with pytest.raises(SteerError, match=said):
            sampler.generate([Prompt("a", id="p1"), Prompt("a", **{"id": "p2", **own})], **BASE)


def test_like_goes_with_like() -> None:
    rows = [Prompt(str(n), settings={"steps": 3 + n % 2}, options={"fk": {"lambda": n % 2}}) for n in range(6)]
    groups = group_alike([*rows, Prompt("x")])
    assert [list(group.prompts) for group in groups] == [["0", "2", "4"], ["1", "3", "5"], ["x"]]
    assert groups[1].settings == {"steps": 4} and groups[1].options == {"fk": {"lambda": 1}}
    assert [list(pack) for pack in groups[0].packs(2)] == [["0", "2"], ["4"]]


@pytest.mark.parametrize(
    ("particles", "chunk", "pixels", "prompts"),
    [
        (1, 8, 64 * 64, 64),
        (4, 16, 512 * 512, 16),
        (3, 8, 64 * 64, 16),  # 48 rows fill six chunks; 63 would leave a hole
        (64, 16, 64 * 64, 1),
        (100, 16, 64 * 64, 1),
        (1, 16, 1024 * 1024, 16),
        (1, 4, 4096 * 4096, 4),
    ],
)
def test_packs_are_full(particles: int, chunk: int, pixels: int, prompts: int) -> None:
    assert pack_size(particles, chunk, pixels) == prompts


def test_halves() -> None:
    pack = [Prompt(str(n)) for n in range(3)]
    assert [list(part) for part in halves(pack)] == [["0"], ["1", "2"]]
    assert halves(pack[:1]) == [pack[:1]]
