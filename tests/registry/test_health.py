"""The quick look at a plugin's health agrees with a real import, and imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steer import SteerError
from steer.registry.health import health
from steer.registry.plugins import Plugins
from steer.registry.registry import Entry, Origin

MODULES = {
    "defines": "import json\nfrom pathlib import Path as Folder\nA: int = 1\nB = 2\ndef function(): ...\nclass Cls: 1",
    "lacks": "import not_installed_anywhere\ndef function(): ...",
    "guards": "try:\n    import not_installed_anywhere\nexcept ImportError:\n    pass\ndef function(): ...",
    "wrong": "def function(",
    "late": "def __getattr__(name):\n    if name != 'made': raise AttributeError(name)\n    return 1",
    "inner/__init__": "",
    "inner/module": "from . import sibling\ndef function(): ...",
    "inner/sibling": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of modules that work and fail in many ways; its name."""
    name = f"package_of_{tmp_path.name}"
    for module, source in {"__init__": "", **MODULES}.items():
        file = tmp_path / name / f"{module}.py"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        *((f"defines:{name}", "") for name in ("json", "Folder", "A", "B", "function", "Cls")),
        ("defines:nothing", "has no attribute 'nothing'"),
        ("lacks:function", "No module named 'not_installed_anywhere'"),
        ("guards:function", ""),
        ("wrong:function", "was never closed"),
        ("late:made", ""),
        ("late:other", "other"),
        ("inner.module:function", ""),
        ("absent:function", "No module named"),
        ("absent.deeper:function", "No module named"),
    ],
)
def test_it_agrees_with_a_real_import(package: str, target: str, reason: str) -> None:
    entry = Entry("method", "mine", f"{package}.{target}", "", Origin("mine", "1.0", "mine"))
    told = health(entry)
    assert told == entry.health
    assert told == "ok" if not reason else told.startswith("broken: ") and reason in told


def test_what_is_no_name_is_there() -> None:
    assert health(Entry("reward", "mine", print, "", Origin("mine", "1.0", "mine"))) == "ok"


def test_listing_plugins_imports_no_torch() -> None:
    code = (
        "import sys; from steer.cli.app import app\n"
        "app.main(['plugins'], standalone_mode=False)\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kinds = [line.split()[0] for line in done.stdout.splitlines()[3:] if line.strip() and "--all" not in line]
    assert list(dict.fromkeys(kinds)) == ["method", "reward", "model"]
    assert done.stdout.strip().endswith("more: steer plugins --all")


@pytest.mark.parametrize(
    ("kind", "declared", "message"),
    [
        ("model", {"weights": []}, "unknown field of model 'mine' 'weights'"),
        ("reward", {"summry": "x"}, "did you mean 'summary'"),
        ("data", {}, "has no kind"),
    ],
)
def test_a_field_of_another_kind_is_an_error(kind: str, declared: dict, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        getattr(Plugins().registry, kind)("mine", "mine:Mine", **declared)
