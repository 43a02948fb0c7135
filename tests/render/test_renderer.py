"""A render: complete, resumable, and the same whatever the packs."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import uuid
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from support.renders import ARGUMENTS, asked, digests, lines

from steer.errors import SteerError
from steer.prompts.prompt import Prompt
from steer.render import Renderer, Spec, render_pass
from steer.render.local import LocalEngine, reason_of
from steer.render.previews import _ancestor, _spread
from steer.render.refresher import FIRST_SECONDS, Refresher
from steer.render.replay import read_recipe, request_of
from steer.results.names import file_stem
from steer.results.storage import storage_at
from steer.sampling.sampler import Sampler

from .conftest import Render

TEXTS = ["a red circle", "a blue square", "the red square", "a photo of the circle", "the blue circle"]


@pytest.mark.slow
def test_what_a_render_leaves(render: Render, tmp_path: Path) -> None:
    rows = [
        Prompt("a red circle", id="Ä/../x", category="color", seed=2**32 - 1, metadata={"negative": "the square"}),
        Prompt("a red circle", id="twin"),
        Prompt("a blue square", id="large", settings={"width": 32, "particles": 3}),
    ]
    summary = render(rows, tmp_path, choose="all")
    assert (summary.done, summary.failed, summary.stopped, summary.progress.images) == (3, 0, False, 7)
    assert summary.cost.nfe == 3 * 7 and summary.cost.seconds > 0
    metadata = lines(tmp_path / "metadata.jsonl")
    assert [row["id"] for row in metadata] == ["Ä/../x"] * 2 + ["twin"] * 2 + ["large"] * 3
    assert metadata[1]["seed"] == 0 and metadata[1]["category"] == "color"
    for row in metadata:
        recipe, slot = read_recipe(tmp_path / row["file_name"])
        assert recipe.prompt["id"] == row["id"] and slot == row["slot"]
        assert (recipe.prompt["seed"] + slot) % 2**32 == row["seed"]
    assert {row["id"]: Image.open(tmp_path / row["file_name"]).width for row in metadata}["large"] == 32
    assert len(list((tmp_path / "images").iterdir())) == 7
    journal = {row["id"]: row for row in lines(tmp_path / "journal.jsonl")}
    assert {row["status"] for row in journal.values()} == {"done"}
    assert journal["large"]["own"] == {"width": 32, "particles": 3}
    details = {row["id"]: row for row in lines(tmp_path / "details.jsonl")}
    assert set(details) == set(journal) == {"Ä/../x", "twin", "large"}
    assert details["twin"]["trace"]["events"]


def load_images(files: list[str], tmp_path: Path) -> Any:
    import datasets

    return datasets.load_dataset("imagefolder", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))


@pytest.mark.slow
def test_hugging_face_datasets_load_it(render: Render, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "out"
    rows = [Prompt(TEXTS[0], category="color"), Prompt(TEXTS[1])]
    render(rows, out, previews=2, particles=2, choose="all", judge=None)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert [(row["prompt"], row["category"], row["image"].size) for row in loaded] == [
        (TEXTS[0], "color", (16, 16)), (TEXTS[0], "color", (16, 16)),
        (TEXTS[1], None, (16, 16)), (TEXTS[1], None, (16, 16)),
    ]  # fmt: skip
    assert {"id", "seed", "slot", "reward", "log_weight", "judge"} <= set(loaded.features)


@pytest.mark.slow
def test_every_image_replays(render: Render, tmp_path: Path, tiny_pipe: Any) -> None:
    rows = [Prompt("a red circle", settings={"steps": 4}, options={"fk": {"lambda": 2.0}}), Prompt("a blue square")]
    render(rows, tmp_path)
    for row in lines(tmp_path / "metadata.jsonl"):
        recipe, slot = read_recipe(tmp_path / row["file_name"])
        again = Sampler(tiny_pipe).generate(
            [recipe.as_prompt()], **{**request_of(recipe).arguments(), "reward": ARGUMENTS["reward"]}
        )
        original = np.asarray(Image.open(tmp_path / row["file_name"]))
        assert np.array_equal(np.asarray(again.items[0].samples[slot].image), original)


@pytest.mark.slow  # seven renders
def test_images_do_not_depend_on_packs_breaks_or_order(render: Render, tmp_path: Path) -> None:
    render(TEXTS, tmp_path / "whole")
    expected = digests(tmp_path / "whole")
    assert len(expected) == 5
    render(TEXTS[::-1], tmp_path / "singly", pack=1)
    assert digests(tmp_path / "singly") == expected
    render(TEXTS[:2], tmp_path / "parts", pack=2)
    render(TEXTS, tmp_path / "parts", pack=3)
    assert digests(tmp_path / "parts") == expected
    for chunk in (1, 8):
        render(TEXTS, tmp_path / f"chunk{chunk}", chunk=chunk, methods=[])
    render(TEXTS, tmp_path / "plain", methods=[])
    for name in digests(tmp_path / "plain"):
        plain, *others = (
            np.asarray(Image.open(tmp_path / place / "images" / name), dtype=int)
            for place in ("plain", "chunk1", "chunk8")
        )
        assert all(abs(plain - other).max() <= 1 for other in others)  # 1e-4 may round to the next of 255 levels


@pytest.mark.slow  # six renders
def test_it_makes_exactly_what_is_missing(render: Render, tmp_path: Path) -> None:
    assert render(TEXTS[:3], tmp_path).progress.done == 3
    assert render(TEXTS[:3], tmp_path).progress.done == 0
    assert render(TEXTS, tmp_path).progress.done == 2
    (tmp_path / "images" / f"{file_stem(Prompt(TEXTS[0]).id)}-000.png").unlink(missing_ok=True)
    (tmp_path / "images" / f"{file_stem(Prompt(TEXTS[0]).id)}-001.png").unlink(missing_ok=True)
    assert render(TEXTS, tmp_path).progress.done == 1
    journal = (tmp_path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    torn = b"\0garbage\n[]\n" + b"".join(journal[:5])[:-20]  # as a power cut may leave it
    (tmp_path / "journal.jsonl").write_bytes(torn)
    assert render(TEXTS, tmp_path).progress.done == 1
    assert len(digests(tmp_path)) == 5
    assert len(lines(tmp_path / "metadata.jsonl")) == 5
    # what earlier calls rendered goes on belonging to the folder
    assert render([TEXTS[0]], tmp_path).done == 5


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["particles", "seed", "prompt", "files", "digest"])
def test_a_journal_line_without_a_field_is_made_again(render: Render, tmp_path: Path, missing: str) -> None:
    render(TEXTS[:2], tmp_path)
    first, *rest = lines(tmp_path / "journal.jsonl")
    del first[missing]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (first, *rest)))
    assert render(TEXTS[:2], tmp_path).progress.done == 1
    assert len(lines(tmp_path / "metadata.jsonl")) == 2


@pytest.mark.slow
def test_a_journal_cannot_remove_files_elsewhere(render: Render, tmp_path: Path) -> None:
    folder, precious = tmp_path / "run", tmp_path / "precious.txt"
    precious.write_text("mine")
    render([Prompt("a red circle", id="p", seed=1)], folder)
    (row,) = lines(folder / "journal.jsonl")
    for name in ("../precious.txt", str(precious), "run.toml"):
        (folder / "journal.jsonl").write_text(json.dumps({**row, "files": [name]}) + "\n")
        assert render([Prompt("a red circle", id="p", seed=2)], folder).progress.done == 1
        assert precious.is_file() and (folder / "run.toml").is_file()


@pytest.mark.parametrize(
    "text", ["replicates = 'x'", "versions = 1", "versions.format = 'x'", "a = " + "[" * 2000, "a = " + "9" * 5000]
)
def test_a_damaged_run_toml_is_told(render: Render, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SteerError, match=r"run\.toml is damaged"):
        render(TEXTS[:1], tmp_path)


def test_a_date_in_run_toml_is_another_setting(render: Render, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("steps = 1979-05-27")
    with pytest.raises(SteerError, match="was begun with"):
        render(TEXTS[:1], tmp_path)


@pytest.mark.slow
def test_a_prompt_that_was_changed_is_made_again(render: Render, tmp_path: Path) -> None:
    render([Prompt("a red circle", id="p", seed=1), Prompt("a blue square", id="q")], tmp_path, choose="all")
    before = digests(tmp_path)
    changed = Prompt("a red circle", id="p", seed=2, settings={"particles": 3})
    assert render([changed, Prompt("a blue square", id="q")], tmp_path, choose="all").progress.done == 1
    render([Prompt("a red circle", id="p", seed=2)], tmp_path, choose="all")
    after = digests(tmp_path)
    assert set(after) == set(before)  # the third particle's image went with it
    assert after["q-000.png"] == before["q-000.png"] and after["p-000.png"] != before["p-000.png"]
    assert [row["id"] for row in lines(tmp_path / "metadata.jsonl")] == ["p", "p", "q", "q"]


@pytest.mark.slow  # six renders
def test_a_failing_prompt_costs_only_itself(render: Render, tmp_path: Path) -> None:
    good, expected = tmp_path / "good", tmp_path / "expected"
    mended = False

    def picky(samples: Any, prompts: Any) -> Any:
        if "the red square" in prompts and not mended:
            raise KeyError("kaput")
        return samples.mean(dim=(1, 2, 3))

    summary = render(TEXTS, good, reward=picky)
    assert (summary.done, summary.failed) == (4, 1)
    (failed,) = (row for row in lines(good / "journal.jsonl") if row["status"] == "failed")
    assert failed["prompt"] == "the red square" and "KeyError" in failed["reason"]
    again = render(TEXTS, good, reward=picky)
    assert (again.progress.done, again.progress.failed, again.failed) == (0, 0, 1)
    again = render(TEXTS, good, reward=picky, retry_failed=True)
    assert (again.progress.failed, again.failed) == (1, 1)
    long = reason_of(ValueError("x" * 10_000 + ", so do this"))
    assert long.startswith("ValueError: x") and long.endswith("so do this") and len(long) < 520
    mended = True
    assert render(TEXTS, good, reward=picky, retry_failed=True).done == 5
    render(TEXTS, expected, reward=picky)
    assert digests(good) == digests(expected)
    assert len(lines(good / "metadata.jsonl")) == 5


@pytest.mark.slow
def test_a_render_in_which_all_fails_ends(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(samples: Any, prompts: Any) -> Any:
        raise RuntimeError("no such device")

    monkeypatch.setattr(render_pass, "HOPELESS", 4)
    with pytest.raises(SteerError, match=r"prompts all failed, the last: .*no such device.*--retry-failed"):
        render([f"a red circle {number}" for number in range(30)], tmp_path, reward=broken, steps=1, methods=[], pack=2)
    assert 4 <= len(lines(tmp_path / "journal.jsonl")) < 30


@pytest.mark.slow
def test_other_settings_are_refused(render: Render, tmp_path: Path) -> None:
    values = {"steps": 3, "options": {"fk": {"lambda": 2.0}}, "plugin": ["fk"], "device": "cpu"}
    render(TEXTS[:1], tmp_path, values=values)
    render(TEXTS[:2], tmp_path, values={**values, "device": "cuda", "workers": 3})
    for change, said in (
        ({"steps": 4}, "begun with steps=3, got steps=4"),
        ({"options": {}}, 'options={"fk": {"lambda": 2.0}}, got options=null'),
        ({"seed": 1}, "seed=null, got seed=1"),
    ):
        with pytest.raises(SteerError) as caught:
            render(TEXTS, tmp_path, values={**values, **change})
        assert said in str(caught.value)
    (tmp_path / "run.toml").write_text("steps =")
    with pytest.raises(SteerError, match="is damaged"):
        render(TEXTS, tmp_path, values=values)


@pytest.mark.slow
def test_replicates_have_noise_of_their_own(render: Render, tmp_path: Path) -> None:
    render([Prompt("a red circle", id="p", seed=5), Prompt("a red circle", id="q")], tmp_path, replicates=3)
    rows = {row["id"]: row for row in lines(tmp_path / "metadata.jsonl")}
    assert set(rows) == {"p", "p.r2", "p.r3", "q", "q.r2", "q.r3"}
    assert rows["p"]["seed"] - rows["p"]["slot"] == 5
    assert len(set(digests(tmp_path).values())) == 6
    assert len({row["seed"] // 10 for row in rows.values()}) == 6


@pytest.mark.slow
def test_more_replicates_are_added_to_those_that_are_there(render: Render, tmp_path: Path) -> None:
    render(TEXTS[:2], tmp_path, replicates=2, values={"replicates": 2})
    before = digests(tmp_path)
    assert render(TEXTS[:2], tmp_path, replicates=3, values={"replicates": 3}).progress.done == 2
    assert digests(tmp_path).items() > before.items()
    with pytest.raises(SteerError, match="begun with replicates=3, got replicates=null"):
        render(TEXTS[:2], tmp_path)


@pytest.mark.slow
def test_the_geneval_tree(render: Render, tmp_path: Path) -> None:
    rows = [
        Prompt(text, category="two_object", metadata={"tag": "two_object", "include": [{"class": "dog", "count": 1}]})
        for text in TEXTS[:2]
    ]
    render(rows, tmp_path, layout="geneval", replicates=2)
    tree = sorted(path.relative_to(tmp_path / "geneval").as_posix() for path in (tmp_path / "geneval").rglob("*.*"))
    assert tree == [
        f"{number:05d}/{name}"
        for number in range(2)
        for name in ("metadata.jsonl", "samples/00000.png", "samples/00001.png")
    ]
    (row,) = lines(tmp_path / "geneval" / "00001" / "metadata.jsonl")
    assert (row["prompt"], row["tag"]) == (TEXTS[1], "two_object") and row["include"]
    assert len(lines(tmp_path / "metadata.jsonl")) == 4
    # GenEval's own metadata.jsonl, one per prompt, are not of the form that datasets takes
    loaded = load_images([str(tmp_path / "metadata.jsonl"), str(tmp_path / "geneval/*/samples/*.png")], tmp_path)
    assert [row["prompt"] for row in loaded] == [TEXTS[0]] * 2 + [TEXTS[1]] * 2
    render([Prompt(TEXTS[2])], tmp_path, layout="geneval", replicates=2)
    assert (tmp_path / "geneval" / "00002" / "samples" / "00001.png").exists()
    with pytest.raises(SteerError, match="layout"):
        render(TEXTS, tmp_path, layout="images")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 2)])
def test_numbers_of_the_geneval_tree_pass_from_one_drawing_to_another(
    render: Render, tmp_path: Path, before: int, after: int
) -> None:
    for count in (before, after):
        row = Prompt(TEXTS[0], id="p", settings={"particles": count})
        render([row], tmp_path, layout="geneval", replicates=2, choose="all")
    files = sorted(path.name for path in (tmp_path / "geneval").rglob("*.png"))
    assert files == [f"{number:05d}.png" for number in range(2 * after)]


@pytest.mark.slow
def test_any_place_that_fsspec_reaches(render: Render, tmp_path: Path) -> None:
    place = f"memory://{uuid.uuid4().hex}"
    render(TEXTS[:2], place)
    summary = render(TEXTS[:3], place)
    assert (summary.plan.done, summary.progress.done) == (2, 1)
    storage = storage_at(place)
    render(TEXTS[:3], tmp_path)
    for name in digests(tmp_path):
        assert storage.read(f"images/{name}") == (tmp_path / "images" / name).read_bytes()
    assert len(list(storage.lines("journal.jsonl"))) == 3
    assert len((storage.read("metadata.jsonl") or b"").splitlines()) == 3


class FullFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A place in memory that takes so many files and no more."""

    protocol = "full"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    room = 0

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        """Write a file if there is room."""
        if FullFileSystem.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        FullFileSystem.room -= 1
        super().pipe_file(path, value, **options)


@pytest.mark.slow  # three renders of singles
@pytest.mark.parametrize("room", [1, 9])
def test_a_remote_place_that_is_full_for_a_while(render: Render, tmp_path: Path, room: int) -> None:
    fsspec.register_implementation("full", FullFileSystem, clobber=True)
    place = f"full://{uuid.uuid4().hex}"
    FullFileSystem.room = room
    with pytest.raises(SteerError, match=r"cannot be written to \(No space left on device\)"):
        render(TEXTS, place, pack=1)
    FullFileSystem.room = 1000
    summary = render(TEXTS, place, pack=1)
    assert (summary.done, summary.failed) == (5, 0)
    storage = storage_at(place)
    render(TEXTS, tmp_path)
    assert {Path(name).name: hashlib.sha256(storage.read(name) or b"").hexdigest()
            for name in storage.sizes("images")} == digests(tmp_path)  # fmt: skip
    assert not [name for name in storage.sizes() if "lock" in name or ".part" in name]


@pytest.mark.slow
def test_a_users_own_folder_beside_the_page_stays(render: Render, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "notes.js").write_text("precious")
    for texts in (TEXTS[:1], TEXTS[:2]):
        render(texts, tmp_path)
    assert (tmp_path / "page" / "notes.js").read_text() == "precious"


@pytest.mark.parametrize("log", ["journal.jsonl", "details.jsonl"])
@pytest.mark.parametrize("begun", [True, False])
def test_a_log_that_is_a_link_is_refused_and_nothing_written(
    log: str, begun: bool, render: Render, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    if begun:
        render(TEXTS[:1], place)
        (place / log).rename(tmp_path / "elsewhere")
    else:
        place.mkdir()
    (place / log).symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SteerError, match="is a link or a device; remove it"):
        render(TEXTS[:2], place)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["metadata.jsonl", "prompts.jsonl", "index.html", "result.json"])
def test_files_of_others_are_not_written_over(render: Render, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(SteerError, match=f"{name}.*choose another"):
        render(TEXTS[:1], tmp_path)
    assert (tmp_path / name).read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_the_page_is_there_before_the_end(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    built: list[float] = []

    def build() -> None:
        built.append(now[0])
        now[0] += 10

        if len(built) == 2:
            raise OSError("a full disk")

    refresher = Refresher(build, lambda: now[0])
    for now[0] in (0.0, FIRST_SECONDS, FIRST_SECONDS + 100, FIRST_SECONDS + 400):
        refresher.come_by()
    now[0] = FIRST_SECONDS + 520
    with pytest.warns(UserWarning, match="cannot be built for now.*full disk"):  # told, and no end of the render
        refresher.come_by()
    assert built == [FIRST_SECONDS, FIRST_SECONDS + 520]  # ten seconds of work are two per cent of 500

    monkeypatch.setattr("steer.render.refresher.FIRST_SECONDS", 0.0)
    seen: list[bool] = []

    class Looks:
        def __getattr__(self, name: str) -> Any:
            return lambda *facts: seen.append((tmp_path / "index.html").exists()) if name == "done" else None

    render(TEXTS[:3], tmp_path, pack=1, watcher=Looks())
    assert True in seen


@pytest.mark.parametrize("identity", ["a/../../b", "con", "é" * 300, "x\ny", ".", "-rf", "a" * 200, "🦊", "Eval-01"])
def test_ids_are_never_paths(render: Render, tmp_path: Path, identity: str) -> None:
    out = tmp_path / "below" / "out"
    render([Prompt("a red circle", id=identity)], out, steps=1, methods=[])
    (file,) = (path for path in tmp_path.rglob("*.png"))
    assert file.parent == out / "images" and file.name.isascii() and len(file.name) < 100
    assert render([Prompt("a red circle", id=identity)], out, steps=1, methods=[]).progress.done == 0


def test_file_names_differ_whatever_the_file_system() -> None:
    hashed = file_stem("A b")
    names = [file_stem(identity) for identity in ("a", "A", "a b", "A b", hashed, "a.b", "a_b", "eval-01", "é", "è")]
    assert len({name.casefold() for name in names}) == len(names)
    assert file_stem("eval-01") == "eval-01"


@pytest.mark.slow  # decodes on the way
def test_previews_follow_the_line_of_descent(render: Render, tmp_path: Path) -> None:
    render(TEXTS[:2], tmp_path / "with", previews=3, steps=6, particles=4)
    render(TEXTS[:2], tmp_path / "without", steps=6, particles=4)
    assert digests(tmp_path / "with") == digests(tmp_path / "without")
    for row in lines(tmp_path / "with" / "details.jsonl"):
        (strip,) = row["previews"]
        assert Image.open(BytesIO(base64.b64decode(strip))).size == (3 * 16, 16)
    events = [
        {"kind": "resample", "step": 2, "slots": [0, 1, 2], "ancestors": [2, 2, 0]},
        {"kind": "resample", "step": 4, "slots": [0, 1, 2], "ancestors": [1, 1, 1]},
    ]
    assert [_ancestor(0, step, events) for step in (5, 4, 3, 2, 1, 0)] == [0, 0, 1, 1, 2, 2]
    assert sorted(_spread(30, 4)) == [0, 6, 12, 18] and _spread(2, 9) == {0, 1} and _spread(4, 4) == {0, 1, 2, 3}


@pytest.mark.slow
def test_the_plan_says_what_the_render_costs(tiny_pipe: Any, tmp_path: Path) -> None:
    spec = Spec(asked(tiny_pipe, **{**ARGUMENTS, "guidance_scale": 3.0}))
    renderer = Renderer(tmp_path / "out", spec, LocalEngine)
    rows = [Prompt(text) for text in TEXTS] + [Prompt("a", settings={"steps": 5, "width": 32, "height": 32})]
    plan = renderer.plan(rows)
    assert not (tmp_path / "out").exists()
    assert (plan.tasks, plan.todo, plan.images) == (6, 6, 6)
    assert [(group.count, group.nfe) for group in plan.groups] == [(5, 3 * 2 * 2), (1, 5 * 2 * 2)]
    assert renderer.render(rows).cost.nfe == plan.nfe
    on_disk = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert on_disk / 3 < plan.bytes < on_disk * 3
    shutil.rmtree(tmp_path / "out")
    json.dumps(plan.free_bytes)
