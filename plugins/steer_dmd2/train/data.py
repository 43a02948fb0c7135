"""Training data of a student: captions, and images for the GAN if there are any.

Images are encoded once, before training. The posterior's mean and standard deviation are kept, so every use of an image
draws fresh latents.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from steer import SteerError, read_prompts
from steer.plugin import (
    IMAGE_SUFFIXES,
    PROMPT_SUFFIXES,
    Plugins,
    files_in,
    json_text,
    pictures,
    read_image,
    read_metadata,
    read_text,
)  # fmt: skip
from steer.training import write_whole

BATCH = 32
"""Images encoded at a time."""


@dataclass(frozen=True)
class Dataset:
    """Captions and, if the data has images, the latents of one image per caption.

    Attributes:
        captions: M texts.
        mean, std: ``[M, C, h, w]``, of the autoencoder's posterior in the denoiser's scale; ``None`` without images.
    """

    captions: list[str]
    mean: Tensor | None = None
    std: Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def latents(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw latents ``[B, C, h, w]`` of the given rows."""
        assert self.mean is not None and self.std is not None
        mean, std = self.mean[rows].float(), self.std[rows].float()
        return mean + std * torch.randn(mean.shape, generator=generator).to(mean)


Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images ``[B, 3, H, W]`` in [0, 1] to mean and standard deviation of their latents."""


def load(
    source: str,
    plugins: Plugins,
    encode: Encode,
    size: tuple[int, int],
    cache: Path,
    *,
    model: str,
    scenes: int,
    seed: int,
    column: str | None = None,
) -> Dataset:
    """Load a data set, encoding its images unless ``cache`` has the same ones.

    Args:
        source: a registered source (``"shapes"``), a folder of images with captions, or a prompt file.
        encode: the teacher's autoencoder.
        size: width and height to which images are scaled and cropped.
        cache: ``.safetensors`` file of the encoded images.
        model: name of the model with that autoencoder.
        scenes: how many images to draw from a registered source.
        column: the column or key that holds the prompts.

    Raises:
        SteerError: for a source that is none of these, an image without a caption, or images of another size.
    """
    drawn = plugins.registry.data_of("captioned images")
    if source in drawn:
        draw = drawn[source].load()
        key = _key(model, source, scenes, seed, size)
        return _encoded(_drawn(draw, scenes, seed, source, size), encode, cache, key)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() in PROMPT_SUFFIXES:
        return Dataset([str(prompt) for prompt in read_prompts(path, column=column)])
    if path.is_dir():
        pairs = read_folder(path, column)
        files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns, text) for file, text in pairs]
        return _encoded(_opened(pairs, size), encode, cache, _key(model, files, size))
    known = ", ".join(drawn) or "none"
    raise SteerError(
        f"data {source!r}: expected a folder of images with captions, a prompt file ({', '.join(PROMPT_SUFFIXES)}) or "
        f"a known source ({known})"
    )


def read_folder(folder: Path, column: str | None = None) -> list[tuple[Path, str]]:
    """Return the images of a folder with their captions.

    Captions are in ``metadata.jsonl`` (``file_name`` and ``text``, ``caption`` or ``prompt``, the layout of an
    imagefolder data set), or in a ``.txt`` file beside each image.

    Raises:
        SteerError: if there is no image, a caption is missing or blank, or a file is not inside the folder.
    """
    metadata = folder / "metadata.jsonl"
    pairs = _from_metadata(metadata, column) if metadata.is_file() else _from_neighbors(folder)
    if not pairs:
        raise SteerError(f"data folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return pairs


def _from_metadata(metadata: Path, column: str | None) -> list[tuple[Path, str]]:
    found, root = read_metadata(metadata, column), metadata.parent.resolve()
    for path, caption in found.items():
        if not caption.strip():
            raise SteerError(f"{metadata}: no caption for {path.name!r}; expected it under 'text'")
        if not (path.is_relative_to(root) and _is_file(path)):
            raise SteerError(f"{metadata}: {str(path)[:200]!r} is not a file inside {metadata.parent}")
    return [(path, caption.strip()) for path, caption in found.items()]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _from_neighbors(folder: Path) -> list[tuple[Path, str]]:
    pairs = []
    for path in files_in(folder, IMAGE_SUFFIXES):
        caption = path.with_suffix(".txt")
        text = read_text(caption, "caption").strip() if caption.is_file() else ""
        if not text:
            raise SteerError(
                f"image {path} has no caption; expected it in {caption.name} beside it, or all captions in "
                f"{folder / 'metadata.jsonl'}"
            )
        pairs.append((path, text))
    return pairs


def _opened(pairs: list[tuple[Path, str]], size: tuple[int, int]) -> Iterator[tuple[Tensor, list[str]]]:
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        yield torch.stack([_open(path, *size) for path, _ in part]), [text for _, text in part]


def _open(path: Path, width: int, height: int) -> Tensor:
    """Read an image, scale it to cover the size, and crop its center: float ``[3, H, W]`` in [0, 1]."""
    (image,) = pictures(read_image(path).pixels[None])
    scale = max(width / image.width, height / image.height)
    scaled = image.resize(
        (max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.LANCZOS
    )
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    pixels = np.asarray(scaled.crop((left, top, left + width, top + height)))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def _drawn(draw: Any, count: int, seed: int, source: str, size: tuple[int, int]) -> Iterator[tuple[Tensor, list[str]]]:
    rng = np.random.default_rng([seed, 0x5CE7E])
    for start in range(0, count, BATCH):
        images, captions = draw(rng, min(BATCH, count - start))
        height, width = images.shape[-2:]
        if (width, height) != size:
            raise SteerError(
                f"data {source!r} has images of {width}x{height}, but the student makes {size[0]}x{size[1]}; give "
                f"--size {width}x{height} if the teacher supports it, or other data"
            )
        yield images, captions


def _key(*parts: object) -> str:
    """Return a hash of everything that the encoded images depend on."""
    return hashlib.blake2b(json_text(parts).encode(), digest_size=16).hexdigest()


@torch.no_grad()
def _encoded(batches: Iterator[tuple[Tensor, list[str]]], encode: Encode, cache: Path, key: str) -> Dataset:
    captions_file = cache.with_suffix(".captions.json")
    if cache.is_file() and captions_file.is_file():
        kept = json.loads(captions_file.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept["key"] == key:
            tensors = load_file(cache)
            return Dataset(kept["captions"], tensors["mean"], tensors["std"])
    means, stds, captions = [], [], []
    for images, texts in batches:
        mean, std = encode(images)
        means.append(mean.half().cpu())
        stds.append(std.half().cpu())
        captions += texts
    mean, std = torch.cat(means).contiguous(), torch.cat(stds).contiguous()
    # captions and key are written last, because latents without them are ignored
    captions_file.unlink(missing_ok=True)
    write_whole(cache, lambda path: save_file({"mean": mean, "std": std}, path))
    text = json_text({"key": key, "captions": captions})
    write_whole(captions_file, lambda path: path.write_text(text, encoding="utf-8"))
    return Dataset(captions, mean, std)
