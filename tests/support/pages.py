"""Runs to show on a page, without rendering them, and how a browser is started."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from PIL import Image

from steer.models.media import media_of
from steer.models.media.video import Video
from support.clips import noisy_square

EVIL = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
CATEGORIES = ["color", "shape", "count"]
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,900",
)  # fmt: skip


def write_run(folder: Path, count: int, *, shift: float = 0.0, thumbnails: bool = False) -> None:
    """Write a run of ``count`` prompts as the journal and the details have it; each shows one of four images."""
    (folder / "images").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (16, 16), (60 * number, 90, 200 - 40 * number)).save(folder / "images" / f"{number}.png")
    for number in range(4, count):
        os.link(folder / "images" / f"{number % 4}.png", folder / "images" / f"{number}.png")
    with (folder / "journal.jsonl").open("w") as journal, (folder / "details.jsonl").open("w") as details:
        for number in range(count):
            prompt = EVIL if number == 1 else f"prompt {number} of a {'red' if number % 2 else 'blue'} thing"
            row, detail = entry(number, prompt, shift)
            if thumbnails:
                detail["thumbnails"] = ["UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"]
            journal.write(json.dumps(row) + "\n")
            details.write(json.dumps(detail) + "\n")
        failed = {"id": "f", "digest": "", "status": "failed", "prompt": EVIL, "reason": f"KeyError: {EVIL}"}
        journal.write(json.dumps(failed) + "\n")


def write_videos(folder: Path, count: int, *, thumbnails: bool) -> None:
    """Write a run like that of :func:`write_run` whose samples are videos of a moving square."""
    medium = media_of("video")
    write_run(folder, count)
    shutil.rmtree(folder / "images")
    (folder / "videos").mkdir()
    for number in range(count):
        value = Video(noisy_square(number))
        (folder / "videos" / f"{number}.mp4").write_bytes(medium.encoded(value, {"title": EVIL}))
    details = [json.loads(line) for line in (folder / "details.jsonl").read_text().splitlines()]
    for number, detail in enumerate(details) if thumbnails else ():
        small = medium.thumbnail(Video(noisy_square(number)))
        detail["thumbnails"] = [base64.b64encode(small).decode()]
    (folder / "details.jsonl").write_text("".join(f"{json.dumps(detail)}\n" for detail in details))
    journal = (folder / "journal.jsonl").read_text().replace("images/", "videos/").replace(".png", ".mp4")
    (folder / "journal.jsonl").write_text(journal.replace("[16, 16]", "[48, 32]"))


def entry(number: int, prompt: str, shift: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a line of the journal and one of the details."""
    reward = (number * 37 % 1000) / 1000 + shift
    particles = [
        {"slot": slot, "reward": reward - slot, "judge": {"clip": number / 10}, "log_weight": 0.0, "chosen": slot == 0}
        for slot in range(3)
    ]
    row = {
        "id": f"p{number}", "digest": "", "status": "done", "prompt": prompt, "category": CATEGORIES[number % 3],
        "seed": number, "files": [f"images/{number}.png"], "reward": reward, "mean_reward": reward, "judge": {},
        "particles": particles, "size": [16, 16], "index": number, "replicate": 0,
    }  # fmt: skip
    events = [
        {"kind": "reward", "step": 2, "slots": [0, 1, 2], "reward": [0.1, 0.5, 0.3]},
        {"kind": "resample", "step": 2, "slots": [0, 1, 2], "ancestors": [1, 1, 2]},
        {"kind": "fk", "step": 2, "slots": [0, 1, 2], "ess": 2.2},
        {"kind": "reward", "step": 5, "slots": [0, 1, 2], "reward": [0.4, 0.5, 0.9]},
    ]
    settings = {
        "steps": 5, "guidance_scale": 4.0, "particles": 3, "eta": 1.0, "width": 16, "height": 16, "chunk": 4,
        "scheduler": None, "negative": "",
    }  # fmt: skip
    recipe = {
        "model": "tiny", "methods": ["fk"], "reward": ["shapes"], "options": {"fk": {"lambda": 2.0}}, "choose": "best",
        "settings": settings, "sampler": "DDIM", "prompt": {"text": prompt, "seed": number, "metadata": {}},
    }  # fmt: skip
    trace = {"events": events, "steps": 5, "particles": 3, "log_z": 1.25}
    return row, {"id": f"p{number}", "recipe": recipe, "trace": trace}


def press(element: Any) -> None:
    """Click an element once it stays where it is: while a page settles, another one may be in its place."""
    from selenium.common.exceptions import ElementClickInterceptedException

    for _ in range(50):
        try:
            element.click()
            return
        except ElementClickInterceptedException:
            time.sleep(0.1)
    element.click()
