"""Every class from a folder: rendered, broken off and gone on with, from a prompt file with the inputs' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.any_pipelines import Kind, image_kinds
from support.commands import Steer
from support.video_pipelines import video_kinds

from steer.models.media import media_of
from steer.models.media.video import Video

KINDS = {f"{kind.name}, {kind.task}": kind for kind in [*image_kinds(), *video_kinds()]}


def stored(value: Any, name: str) -> Any:
    """Return an input as a row has it: a picture or a clip as a file beside the prompt file."""
    if isinstance(value, Image.Image):
        value.save(f"{name}.png")
        return f"{name}.png"
    if isinstance(value, list) and isinstance(value[0], Image.Image):
        Path(f"{name}.mp4").write_bytes(media_of("video").encoded(Video(np.stack(value)), {}))
        return f"{name}.mp4"
    return value


@pytest.mark.slow
@pytest.mark.thorough  # test_videos.py has one of them for `make test`
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_render_goes_on_with_what_is_missing(kind: Kind, steer: Steer) -> None:
    kind.make().save_pretrained("model")
    inputs = {name: stored(value, name) for name, value in kind.inputs.items()}
    rows = [{"prompt": text, **kind.settings, **inputs} for text in ("a red circle", "a blue square")]
    Path("p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ("render", "p.jsonl", "-m", "model", "--pipeline", kind.name, "--steps", kind.steps, "--device", "cpu",
             "-p", "best-of-n", "-o", "best-of-n.n=2", "-r", "jpeg", "--out", "r", "--json")  # fmt: skip
    first = steer(*words)
    assert first.code == 0, first.err
    files = [Path("r") / json.loads(line)["file_name"] for line in Path("r/metadata.jsonl").read_text().splitlines()]
    before = [file.read_bytes() for file in files]
    assert len(set(before)) == 2
    files[1].unlink()
    again = steer(*words)
    assert again.code == 0, again.err
    assert [file.read_bytes() for file in files] == before
    done = [event for line in again.out.splitlines() if (event := json.loads(line))["event"] == "done"]
    assert len(done) == 1  # the other was not made again
