"""What renders with the tiny model are asked for, and what they left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from steer.rewards.by_name import reward_list
from steer.sampling.request import SamplingRequest
from steer.settings.run_settings import SETTINGS, RunSettings
from support.tiny import brightness

ARGUMENTS = {"steps": 3, "guidance_scale": 1.0, "particles": 2, "chunk": 4, "reward": brightness, "methods": ["fk"]}
PROMPTS = 16


def asked(model: Any, **arguments: Any) -> SamplingRequest:
    """Return a request with arguments as the sampler takes them, settings among them."""
    settings = {name: arguments.pop(name) for name in SETTINGS if name in arguments}
    reward = reward_list(arguments.pop("reward", None))
    return SamplingRequest(model, reward=reward, settings=RunSettings(**settings), **arguments)


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
