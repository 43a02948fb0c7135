"""Training data of SymmFlow: labeled images from folders, from data sets in packages, or drawn on demand."""

import inspect
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from steer import SteerError
from steer.plugin import (
    IMAGE_SUFFIXES,
    Plugins,
    Reading,
    files_in,
    message_of,
    read_image,
    read_object,
    read_table,
    unknown,
)
from steer_symmflow.images import nearest_labels, read_rgb, resized_mask

LABELS = "labels.json"
"""Beside a folder of masks: ``{"sky": [0, 0, 255], …}``, the color of each label, in order."""


class Labeled(Protocol):
    """A source of labeled images.

    Attributes:
        kind: ``"masks"`` or ``"classes"``.
        labels: names of the labels, in order.
        colors: for masks, the color of each label.
        size: (height, width) of the images.
    """

    kind: str
    labels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    size: tuple[int, int]

    def batch(self, rng: np.random.Generator, count: int, split: str = "train") -> tuple[NDArray, NDArray]:
        """Draw uint8 images ``[N, H, W, 3]`` and int64 labels, ``[N]`` for classes or ``[N, H, W]`` for masks."""


class Stored:
    """A data set in memory; a tenth (at least one image) is held out as ``"eval"``."""

    def __init__(
        self,
        kind: str,
        labels: tuple[str, ...],
        colors: tuple[tuple[int, int, int], ...],
        images: NDArray,
        targets: NDArray,
        *,
        shift: int = 0,
    ) -> None:
        """Keep a data set of images.

        Args:
            images: uint8 ``[N, H, W, 3]``.
            targets: int64, ``[N]`` for classes or ``[N, H, W]`` for masks.
            shift: most pixels by which training images of classes are shifted in each direction, over black.
        """
        if len(images) < 2:
            raise SteerError(f"found {len(images)} image, expected at least 2, because one is held out")
        self.kind, self.labels, self.colors = kind, labels, colors
        self.size = (int(images.shape[1]), int(images.shape[2]))
        rows = np.random.default_rng(0).permutation(len(images))
        held = max(1, len(images) // 10)
        self._rows = {"train": rows[held:], "eval": rows[:held]}
        self._images, self._targets, self._shift = images, targets, shift

    def batch(self, rng: np.random.Generator, count: int, split: str = "train") -> tuple[NDArray, NDArray]:
        """See :class:`Labeled`; drawn with replacement."""
        places = self.places(rng, count, split)
        images, targets = self.at(places, split)
        if self._shift and split == "train":
            images = moved(images, rng.integers(-self._shift, self._shift + 1, size=(count, 2)))
        return images, targets

    @property
    def fixed(self) -> bool:
        """Whether an image is the same each time that it is drawn."""
        return not self._shift

    def count(self, split: str) -> int:
        """Return the images of a split."""
        return len(self._rows[split])

    def places(self, rng: np.random.Generator, count: int, split: str = "train") -> NDArray:
        """Draw places in a split, int64 ``[count]``; :meth:`batch` draws the same."""
        return rng.integers(self.count(split), size=count)

    def at(self, places: NDArray, split: str = "train") -> tuple[NDArray, NDArray]:
        """Return the images and targets at places of a split."""
        rows = self._rows[split][places]
        return self._images[rows], self._targets[rows]

    def all_of(self, split: str) -> tuple[NDArray, NDArray]:
        """Return every image and target of a split, in order."""
        return self._images[self._rows[split]], self._targets[self._rows[split]]


def moved(images: NDArray, by: NDArray) -> NDArray:
    """Return images ``[N, H, W, 3]``, each shifted by its row ``(down, right)`` of ``by`` ``[N, 2]``, over black."""
    out = np.zeros_like(images)
    height, width = images.shape[1:3]
    for row, (down, right) in enumerate(by.tolist()):
        to = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
        of = (slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0)))
        out[row][to] = images[row][of]
    return out


def open_data(name: str, size: tuple[int, int] | None, plugins: Plugins) -> Labeled:
    """Open training data.

    Args:
        name: a registered name (``shapes-masks``, ``digits``), ``torchvision:CIFAR10:FOLDER``, a folder with
            ``images/`` and ``masks/`` of equal names and a ``labels.json``, a folder with one subfolder per class, or
            a folder with a ``metadata.csv`` of ``file_name,label``.
        size: (height, width) to resize to; required if the files differ in size.

    Raises:
        SteerError: naming the file, if something cannot be used.
    """
    known = plugins.registry.data_of("labeled images")
    if name in known:
        made: Labeled = known[name].load()()
        return made
    kind, _, rest = name.partition(":")
    if kind == "torchvision" and rest:
        return _torchvision(rest, size)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise unknown("data", name, [*known, "torchvision:CIFAR10:FOLDER", "a folder"])
    if (folder / "masks").is_dir():
        return _mask_folder(folder, size)
    return _class_folder(folder, size)


def digits() -> Stored:
    """Return scikit-learn's 1,797 handwritten digits (UCI, 8×8) as 16×16 images; a tenth is held out, the others are
    shifted by up to two pixels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SteerError("data 'digits' comes with scikit-learn: pip install 'steer-diffusion[digits]'") from None
    found = load_digits()
    gray = np.clip(found.images * (255 / 16), 0, 255).astype(np.uint8)
    large = gray.repeat(2, axis=1).repeat(2, axis=2)
    images = np.repeat(large[..., None], 3, axis=3)
    names = tuple(str(name) for name in found.target_names)
    return Stored("classes", names, (), images, found.target.astype(np.int64), shift=2)


def _images(paths: list[Path], size: tuple[int, int] | None) -> tuple[NDArray, list[tuple[int, int]]]:
    """Return images uint8 ``[N, H, W, 3]``, and each one's own (height, width) in its file.

    They are read as in ``steer segment`` and ``steer classify``: upright, with transparent parts white.
    """
    out: NDArray | None = None
    own = []
    for row, path in enumerate(paths):
        image = (read_image(path).pixels * 255).round().byte().permute(1, 2, 0).numpy()
        own.append((int(image.shape[0]), int(image.shape[1])))
        if size is not None and own[-1] != size:
            image = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
        if out is None:
            out = np.empty((len(paths), *image.shape), np.uint8)
        if image.shape != out.shape[1:]:
            raise SteerError(
                f"image {path} is {image.shape[1]}x{image.shape[0]}, {paths[0].name} is {out.shape[2]}x{out.shape[1]}; "
                "give one --size WxH for all"
            )
        out[row] = image
    assert out is not None
    return out, own


def read_labels(file: Path) -> dict[str, tuple[int, int, int]]:
    """Return the color of each label of a ``labels.json``, in order.

    Raises:
        SteerError: if it is not a valid file, or two labels have the same color.
    """
    if not file.is_file():
        raise SteerError(
            f"{file} does not exist; expected the color of each label, such as "
            '{"sky": [0, 0, 255], "sea": [0, 255, 0]}'
        )
    table = read_object(file, "labels")
    try:
        labels = {str(name): (r, g, b) for name, (r, g, b) in table.items()}
        ok = len(labels) > 1 and all(type(v) is int and 0 <= v <= 255 for color in labels.values() for v in color)
    except (ValueError, TypeError):
        ok, labels = False, {}
    if not ok:
        raise SteerError(f'{file}: expected two or more of {{"sky": [0, 0, 255], …}}, the color of each in 0..255')
    owner: dict[tuple[int, int, int], str] = {}
    for name, color in labels.items():
        if color in owner:
            raise SteerError(f"{file}: {owner[color]!r} and {name!r} have the same color {list(color)}")
        owner[color] = name
    return labels


def _mask_folder(folder: Path, size: tuple[int, int] | None) -> Stored:
    table = read_labels(folder / LABELS)
    colors = tuple(table.values())
    images = files_in(folder / "images", IMAGE_SUFFIXES, below=False)
    if not images:
        raise SteerError(f"{folder / 'images'} holds no image ({', '.join(IMAGE_SUFFIXES)})")
    masks = []
    for path in images:
        match = next((m for s in (".png", path.suffix) if (m := folder / "masks" / f"{path.stem}{s}").is_file()), None)
        if match is None:
            raise SteerError(f"image {path} has no mask; expected masks/{path.stem}.png")
        masks.append(match)
    pixels, own = _images(images, size)
    shape = (int(pixels.shape[1]), int(pixels.shape[2]))
    targets = np.empty(pixels.shape[:3], np.int64)
    for row, (file, (height, width)) in enumerate(zip(masks, own, strict=True)):
        mask = read_rgb(file)
        # it may have fewer pixels but needs the same aspect ratio, up to rounding
        if abs(mask.shape[0] * width - mask.shape[1] * height) > max(height, width):
            got = f"{mask.shape[1]}x{mask.shape[0]}"
            raise SteerError(f"mask {file} is {got}, its image {width}x{height}; expected the same aspect ratio")
        targets[row] = nearest_labels(
            resized_mask(mask, shape), colors, False, str(file), f"add it to {LABELS} or fix the mask"
        )
    return Stored("masks", tuple(table), colors, pixels, targets)


def _class_folder(folder: Path, size: tuple[int, int] | None) -> Stored:
    listing = folder / "metadata.csv"
    if listing.is_file():
        pairs = []
        for where, row in read_table(listing, "list", Reading("file_name", flag="")):
            missing = [key for key in ("file_name", "label") if not row.get(key)]
            if missing:
                raise SteerError(f"{where}: no {missing[0]}; expected the columns file_name and label")
            pairs.append((folder / row["file_name"], row["label"]))
    else:
        found = files_in(folder, IMAGE_SUFFIXES)
        pairs = [(path, path.relative_to(folder).parts[0]) for path in found if path.parent != folder]
    names = tuple(sorted({label for _, label in pairs}))
    if len(names) < 2:
        raise SteerError(
            f"{folder}: found {len(names)} class{'' if len(names) == 1 else 'es'}, expected at least 2; give a folder "
            f"of images/, masks/ and {LABELS}, or one with a subfolder of images per class"
        )
    images, _ = _images([path for path, _ in pairs], size)
    return Stored("classes", names, (), images, np.array([names.index(label) for _, label in pairs], np.int64))


def _torchvision(spec: str, size: tuple[int, int] | None) -> Stored:
    name, _, root = spec.partition(":")
    from torchvision import datasets

    cls: Any = getattr(datasets, name, None)
    takes = inspect.signature(cls).parameters if isinstance(cls, type) else {}
    if "root" not in takes or not root:
        raise SteerError(f"data 'torchvision:{spec}': expected torchvision:CIFAR10:FOLDER with a class of torchvision")
    part = {"train": True} if "train" in takes else {"split": "train"} if "split" in takes else {}
    try:
        found = cls(root, **part, **({"download": False} if "download" in takes else {}))
    except (RuntimeError, TypeError, OSError, ValueError, ImportError) as error:
        raise SteerError(f"data 'torchvision:{spec}': {message_of(error)}") from None
    images, targets = [], []
    for image, target in found:
        if not isinstance(image, Image.Image) or not isinstance(target, (int, np.integer)):
            got = f"{type(image).__name__} and {type(target).__name__}"
            raise SteerError(f"data 'torchvision:{spec}' gives {got}, expected images with the number of their class")
        rgb = image.convert("RGB")
        images.append(np.asarray(rgb if size is None else rgb.resize(size[::-1], Image.Resampling.BICUBIC)))
        if images[-1].shape != images[0].shape:
            raise SteerError(f"data 'torchvision:{spec}' has images of several sizes; give one --size WxH for all")
        targets.append(int(target))
    names = tuple(getattr(found, "classes", None) or (str(i) for i in range(max(targets) + 1)))
    return Stored("classes", names, (), np.stack(images), np.array(targets, np.int64))


def to_pixels(images: NDArray) -> torch.Tensor:
    """Turn uint8 ``[N, H, W, 3]`` into float ``[N, 3, H, W]`` in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
