"""Writing new plugin packages from the templates in ``steer/testing/templates``, for ``steer new``."""

import keyword
import re
import shutil
from pathlib import Path
from string import Template

from steer.errors import SteerError
from steer.registry.plugins import Plugins

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def create(kind: str, name: str, parent: Path, plugins: Plugins) -> list[Path]:
    """Write a plugin package that works after ``pip install -e``.

    Args:
        kind: ``"reward"`` or ``"method"``.
        name: of lower-case letters, digits and hyphens.
        parent: the package's folder ``steer-NAME`` is made in it.
        plugins: the known plugins, whose names are taken.

    Returns:
        The files written.

    Raises:
        SteerError: for a name that is invalid or taken, or a folder that exists already.
    """
    check_name(kind, name, plugins)
    words = {
        "kind": kind,
        "name": name,
        "distribution": f"steer-{name}",
        "module": f"steer_{name.replace('-', '_')}",
        "cls": "".join(part.capitalize() for part in name.split("-")),
    }
    folder = parent / words["distribution"]
    contents = {folder / path: text for path, text in _files(kind, words).items()}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        raise SteerError(f"{folder} exists already; choose another name or --out") from None
    except OSError as error:
        raise SteerError(f"{folder} cannot be made ({error.strerror}); choose another --out") from None
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)  # it was made here just now
        if isinstance(error, OSError):
            raise SteerError(f"{folder} cannot be written ({error.strerror}); choose another --out") from None
        raise
    return list(contents)


def check_name(kind: str, name: str, plugins: Plugins) -> None:
    """Raise unless a plugin may have this name."""
    module = name.replace("-", "_")
    if not NAME.fullmatch(name) or len(name) > 40 or keyword.iskeyword(module):
        raise SteerError(
            f"{name!r} is no valid {kind} name; expected lower-case letters, digits and hyphens, beginning with a "
            "letter, such as bright-sky"
        )
    taken = plugins.registry.entries["reward"].get(name) or plugins.registry.entries["method"].get(name)
    if taken is not None:
        raise SteerError(
            f"{name!r} is taken by the {taken.kind} of plugin {taken.origin.plugin!r}; choose another name"
        )


def _files(kind: str, words: dict[str, str]) -> dict[str, str]:
    module = words["module"]
    sources = {
        "pyproject.toml": "common/pyproject.toml",
        "README.md": f"{kind}/README.md",
        f"{module}/__init__.py": f"{kind}/__init__.py",
        f"{module}/{kind}.py": f"{kind}/{kind}.py",
        f"tests/test_{module}.py": f"{kind}/test.py",
    }
    return {
        target: Template((TEMPLATES / f"{source}.tmpl").read_text(encoding="utf-8")).substitute(words)
        for target, source in sources.items()
    }
