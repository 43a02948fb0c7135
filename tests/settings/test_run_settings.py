"""The settings of a run: one declaration, found in every place where a setting can be given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.settings import places

from steer.errors import SteerError
from steer.settings.run_settings import SETTINGS, RunSettings, as_typed, check_modality

VALUES = {
    "timesteps": (9, 5, 1), "guidance_scale": 2.5, "true_cfg_scale": 1.5, "eta": 0.5, "temperature": 0.5,
    "scheduler": "ddim", "negative": "a blue square", "denoiser": "base", "prompt_syntax": "a1111",
}  # fmt: skip
EVERYWHERE = {"particles", "steps", "guidance_scale", "true_cfg_scale", "eta", "scheduler", "negative", "length"}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_in_every_place(name: str, tmp_path: Path) -> None:
    value = VALUES.get(name, 7)
    found = places(name, value, tmp_path)
    assert all(made in (True, value) for made in found.values()), found
    assert "recipe" in found and f"comparison's {name}" in found
    if name in EVERYWHERE:
        assert {"generate --help", "render --help", "compare --help", "command of the page"} <= set(found)
        assert any(place.startswith("row's") for place in found)


ONE_MORE = """
import json, sys
from pathlib import Path
from support.settings import places, with_one_more
folder = Path(sys.argv[1])
with_one_more(folder)
found = places("made_up", 0.25, folder)
from steer.cli.app import app
prompts = folder / "prompts.jsonl"
prompts.write_text(json.dumps({"prompt": "a red circle", "id": "a", "invented": 0.5}))
out = str(folder / "out")
app.main(["generate", "-f", str(prompts), "--steps", "1", "--made-up", "0.25", "--out", out], standalone_mode=False)
(item,) = json.loads((folder / "out" / "result.json").read_text())["items"]
found["recipe of an image"] = item["recipe"]["settings"]["made_up"] / 2
try:
    app.main(["replay", f"{out}/{item['files'][0]}", "--out", f"{out}/again"], standalone_mode=False)
except SystemExit as done:
    assert done.code == 0
print(json.dumps(found))
"""


def test_a_new_setting_is_one_edit(tmp_path: Path) -> None:
    """A module with one more declaration stands in for the real one, in a process of its own."""
    tests = Path(__file__).resolve().parents[1]
    code = f"import sys; sys.path.insert(0, {str(tests)!r})\n{ONE_MORE}"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert any("equal to the original" in line for line in said)
    found = json.loads(last)
    assert all(made in (True, 0.25) for made in found.values()), found
    assert len(found) == 13, found


def test_what_was_asked_for_is_kept_as_it_is() -> None:
    settings = RunSettings.typed({"guidance": 3, "size": "48x32", "steps": None, "model": "shapes"})
    assert settings.given() == {"guidance_scale": 3, "width": 48, "height": 32}
    assert isinstance(settings.guidance_scale, int)
    assert as_typed(settings.given()) == {"guidance": 3, "size": "48x32"}
    assert settings.having(width=None, chunk=2).given() == {"guidance_scale": 3, "height": 32, "chunk": 2}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stepps": 3}, "unknown setting 'stepps' — did you mean 'steps'"),
        ({"steps": 0}, "steps=0: expected int in 1..10000 (denoising steps)"),
        ({"steps": True}, "steps=True: expected int"),
        ({"eta": float("nan")}, "eta=nan: expected int or float in 0..1"),
        ({"timesteps": [3]}, "expected tuple"),
    ],
)
def test_what_a_setting_does_not_take(settings, said: str) -> None:
    with pytest.raises(SteerError) as caught:
        RunSettings(**settings)
    assert said in str(caught.value)


def test_a_setting_of_another_modality() -> None:
    check_modality("steps", "text")
    with pytest.raises(SteerError, match="eta is a setting of images and videos, and this model makes texts"):
        check_modality("eta", "text")
