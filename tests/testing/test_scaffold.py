"""``steer new``: what it writes installs, is found, fulfills its contract and steers, beside a broken plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny import tiny_sd

from steer.errors import SteerError
from steer.registry.plugins import Plugins, manager
from steer.testing.scaffold import create

DRIVER = """
import contextlib, io, json, sys
from steer.cli.app import app
done = []
for arguments in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            app.main(arguments, standalone_mode=False)
            code = 0
        except SystemExit as stop:
            code = stop.code
    done.append([code, out.getvalue()])
print(json.dumps(done))
"""
"""Several commands in one process: torch is imported once."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site directory with a new reward and a new method, installed by pip, and a broken plugin."""
    home = tmp_path_factory.mktemp("new")
    projects = [create(kind, name, home, manager())[0].parent for kind, name in PROJECTS]
    broken = home / "steer-broken"
    (broken / "steer_broken").mkdir(parents=True)
    (broken / "steer_broken" / "__init__.py").write_text("import not_installed_anywhere\n")
    text = (projects[0] / "pyproject.toml").read_text()
    text = text.replace("bright-sky", "broken").replace("steer_bright_sky", "steer_broken")
    (broken / "pyproject.toml").write_text(text)
    (broken / "README.md").write_text("broken")
    target = home / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--target", str(target), *map(str, projects), str(broken)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


PROJECTS = (("reward", "bright-sky"), ("method", "pull"))


def python(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd, timeout=600
    )


def test_a_new_package_is_found_checked_and_used_beside_a_broken_one(site: Path, tmp_path: Path) -> None:
    tiny_sd().save_pretrained(tmp_path / "tiny")
    generate = [
        "generate", "a red circle", "--model", "tiny", "--steps", "3", "--out", "out", "--seed", "1", "--json",
        "--plugin", "fk", "--plugin", "pull", "-o", "pull.strength=0.2", "--reward", "bright-sky",
        "-o", "bright-sky.target=0.3", "--particles", "2", "--judge", "jury.py:jury",
    ]  # fmt: skip
    (tmp_path / "jury.py").write_text("def jury(samples, prompts): return samples.amax(dim=(1, 2, 3))\n")
    commands = [["plugins", "--json"], ["check", "reward", "bright-sky", "--json", "--out", "report"], generate]
    done = python(site, "-c", DRIVER, json.dumps(commands), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (_, plugins), (check_code, check), (code, made) = json.loads(done.stdout)

    rows = {(row["kind"], row["name"]): row for row in json.loads(plugins)}
    assert rows["reward", "bright-sky"]["health"] == "ok"
    assert rows["reward", "bright-sky"]["version"] == "0.1.0"
    assert rows["method", "pull"]["health"] == "ok"
    assert rows["plugin", "broken"]["health"].startswith("broken: ModuleNotFoundError")

    report = json.loads(check)
    assert check_code == 0 and report["ok"]
    assert {"name": "gradient", "status": "passed"}.items() <= next(
        c for c in report["checks"] if c["name"] == "gradient"
    ).items()
    assert (tmp_path / "report" / "best-and-worst.png").is_file()

    assert code == 0
    item = json.loads(made)["items"][0]
    assert 0 < item["reward"] <= 1
    assert set(item["judge"]) == {"jury.py:jury"}
    assert item["recipe"]["methods"] == ["fk", "pull"]


@pytest.mark.parametrize(("kind", "name"), PROJECTS)
def test_its_own_tests_pass(site: Path, kind: str, name: str, tmp_path: Path) -> None:
    file = site.parent / f"steer-{name}" / "tests" / f"test_steer_{name.replace('-', '_')}.py"
    done = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["Bright", "a_b", "-a", "a-", "", "../evil", "a b", "é", "x" * 41])
def test_bad_names_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SteerError, match="expected lower-case letters"):
        create("reward", name, tmp_path / "out", Plugins())
    assert not list(tmp_path.iterdir())


def test_a_taken_name_and_an_existing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="'fk' is taken by the method of plugin 'fk'"):
        create("reward", "fk", tmp_path, manager())
    (tmp_path / "steer-mine").mkdir()
    (tmp_path / "steer-mine" / "precious.txt").write_text("keep")
    with pytest.raises(SteerError, match="steer-mine exists already"):
        create("reward", "mine", tmp_path, manager())
    assert (tmp_path / "steer-mine" / "precious.txt").read_text() == "keep"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SteerError, match="choose another"):
        create("reward", "mine", tmp_path / "file", Plugins())
