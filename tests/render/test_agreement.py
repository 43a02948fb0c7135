"""``generate`` and ``render`` make the same image of a prompt and a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.renders import asked, lines
from support.tiny import brightness

from steer.prompts.prompt import Prompt
from steer.render import Renderer, Spec
from steer.render.local import LocalEngine
from steer.sampling.sampler import Sampler

PROMPTS = [Prompt("a red circle", seed=3), Prompt("a blue square", seed=50), Prompt("the circle", seed=7)]


@pytest.mark.slow  # every prompt twice
@pytest.mark.parametrize("particles", [1, 3, 11])
def test_generate_and_render_agree_to_the_bit(tiny_pipe: Any, tmp_path: Path, particles: int) -> None:
    arguments = {
        "steps": 2, "eta": 1.0, "particles": particles, "choose": "all",
        **({"methods": ["fk"], "reward": brightness} if particles > 1 else {}),
    }  # fmt: skip
    Renderer(tmp_path, Spec(asked(tiny_pipe, **arguments)), LocalEngine).render(PROMPTS)
    rendered = {(row["prompt"], row["slot"]): row["file_name"] for row in lines(tmp_path / "metadata.jsonl")}
    assert len(rendered) == len(PROMPTS) * particles
    for prompt in PROMPTS:  # each alone, while the render had them in one pack
        (item,) = Sampler(tiny_pipe).generate(prompt, **arguments).items
        for sample in item.samples:
            with Image.open(tmp_path / rendered[str(prompt), sample.slot]) as image:
                assert np.array_equal(np.asarray(image), np.asarray(sample.image)), (prompt, sample.slot)


@pytest.mark.slow
def test_a_render_goes_on_with_the_chunk_that_it_began_with(tiny_pipe: Any, tmp_path: Path) -> None:
    def chunk(count: int, **values: Any) -> int:
        spec = Spec(asked(tiny_pipe, steps=1, particles=3, choose="all"))
        renderer = Renderer(tmp_path, spec, LocalEngine, values=values)
        groups = renderer.plan(PROMPTS[:count]).groups
        renderer.render(PROMPTS[:count])
        return int(groups[0].settings["chunk"])

    assert chunk(1) == 3
    run = tmp_path / "run.toml"
    assert "chunk = 3\n" in run.read_text()
    run.write_text(run.read_text().replace("chunk = 3\n", "chunk = 8\n"))  # as another version chose it
    assert chunk(2) == 8
    assert "chunk = 8\n" in run.read_text()


@pytest.mark.slow
def test_prompts_with_particles_of_their_own_keep_chunks_of_their_own(tiny_pipe: Any, tmp_path: Path) -> None:
    more = Prompt("a red square", seed=1, settings={"particles": 5})

    def chunks(*prompts: Prompt) -> list[int]:
        renderer = Renderer(tmp_path, Spec(asked(tiny_pipe, steps=1, particles=2)), LocalEngine)
        groups = renderer.plan(prompts).groups
        renderer.render(prompts)
        return sorted(group.settings["chunk"] for group in groups)

    assert chunks(PROMPTS[0], more) == [2, 5]
    assert chunks(PROMPTS[1]) == [2]
    assert chunks(Prompt("the square", settings={"particles": 5})) == [5]  # not the two of the call before
