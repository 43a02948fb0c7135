"""Renders in this process with a tiny model, and what they left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.renders import ARGUMENTS, PROMPTS, asked, write_prompts

from steer.prompts.prompt import Prompt
from steer.render import Renderer, Spec, Summary
from steer.render.local import LocalEngine

Render = Callable[..., Summary]
REWARDS = """
def brightness(samples, prompts): return samples.mean(dim=(1, 2, 3))
"""


@pytest.fixture
def render(tiny_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Render:
    """Render prompts into a place with the tiny model; keywords are arguments of the sampler, or as named."""
    monkeypatch.setattr("steer.results.storage.remote.SETTLE_SECONDS", 0.05)

    def run(
        prompts: Iterable[str | Prompt], place: str | Path, *, pack: int | None = None, watcher: Any = None,
        layout: str = "images", retry_failed: bool = False, values: Mapping[str, Any] | None = None,
        seed: int | None = None, replicates: int = 1, previews: int = 0, **arguments: Any,
    ) -> Summary:  # fmt: skip
        request = asked(tiny_pipe, seed=seed, **{**ARGUMENTS, **arguments})
        spec = Spec(request, replicates=replicates, previews=previews)
        renderer = Renderer(
            place, spec, lambda spec: LocalEngine(spec, pack_prompts=pack), layout=layout, watcher=watcher,
            retry_failed=retry_failed, values=values,
        )  # fmt: skip
        return renderer.render([row if isinstance(row, Prompt) else Prompt(row) for row in prompts])

    return run


@pytest.fixture
def place(tmp_path: Path, tiny: Path) -> Path:
    """A folder with prompts, a reward and the model."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    (tmp_path / "tiny").symlink_to(tiny)
    write_prompts(tmp_path, PROMPTS)
    return tmp_path
