"""Renders in this process with a tiny model, and what they left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.tiny import brightness, tiny_sd

from steer.prompts.prompt import Prompt
from steer.render import Renderer, Spec, Summary
from steer.render.local import LocalEngine

ARGUMENTS = {"steps": 3, "guidance_scale": 1.0, "particles": 2, "chunk": 4, "reward": brightness, "methods": ["fk"]}
Render = Callable[..., Summary]
PROMPTS = 16
REWARDS = """
def brightness(samples, prompts): return samples.mean(dim=(1, 2, 3))
"""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pipeline in diffusers format; never change it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_sd().save_pretrained(folder)
    return folder


@pytest.fixture
def render(tiny_pipe: Any) -> Render:
    """Render prompts into a place with the tiny model; keywords are arguments of the sampler, or as named."""

    def run(
        prompts: Iterable[str | Prompt], place: str | Path, *, pack: int | None = None, watcher: Any = None,
        layout: str = "images", retry_failed: bool = False, values: Mapping[str, Any] | None = None,
        seed: int | None = None, replicates: int = 1, previews: int = 0, **arguments: Any,
    ) -> Summary:  # fmt: skip
        spec = Spec(
            tiny_pipe, arguments={**ARGUMENTS, **arguments}, seed=seed, replicates=replicates, previews=previews
        )
        renderer = Renderer(
            place, spec, lambda spec: LocalEngine(spec, pack_prompts=pack), layout=layout, watcher=watcher,
            retry_failed=retry_failed, values=values,
        )  # fmt: skip
        return renderer.render([row if isinstance(row, Prompt) else Prompt(row) for row in prompts])

    return run


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path) -> Path:
    """A folder with prompts, a reward and the model."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    (tmp_path / "tiny").symlink_to(tiny_folder)
    write_prompts(tmp_path, PROMPTS)
    return tmp_path


def write_prompts(place: Path, count: int) -> None:
    """Write prompts that go in many small packs: most set steps of their own."""
    rows = [{"prompt": f"a red circle {n}", "id": f"p{n}", "steps": 1 + n % (count // 4)} for n in range(count)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every image's bytes by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.png"))}
