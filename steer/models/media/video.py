"""Videos: :class:`Videos` as samples, :class:`Video` as values, MP4 files with their recipe (:mod:`.mp4`)."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steer.models.media import mp4
from steer.models.media.image import THUMBNAIL, image_bytes, shrunk
from steer.models.media.media import Medium

CHUNK_PIXELS = 4 * 1024**2
"""Pixels that :meth:`Videos.chunks` holds at once, at most (16 bytes each with a copy in fp32)."""
FPS = 8.0
"""Frames per second if nobody says how many."""
DIGEST = "frames"
"""Key of the hash of a video's frames among the texts of its file."""
FILE_BYTES, PIXEL_BYTES = 2_000, 0.1
"""Bytes of an MP4 without frames, and per pixel of a frame; plain or still videos take a fraction of it."""
STRIP, STRIP_SIDE, STRIP_GAP = 4, 256, 2
"""Frames of a filmstrip, pixels of a frame's longer side, and between frames."""
PROBE = 8
"""Frames of a video without meaning."""
BLOCK = 16
"""Pixels of the side of the blocks in which two encoded videos are compared."""


class Videos:
    """N videos of one length and size; indexing by a slice or an int64 tensor of rows gives videos.

    Attributes:
        count: frames of each video.
        size: height and width in pixels.
        fps: frames per second.
        device: of the frames.
    """

    def __init__(self, pixels: Tensor, fps: float = FPS) -> None:
        """Keep frames.

        Args:
            pixels: ``[N, F, 3, H, W]``, float in [0, 1], with a graph or without; or uint8, a quarter of the memory.
            fps: frames per second.
        """
        if pixels.ndim != 5 or pixels.shape[2] != 3:
            raise ValueError(f"videos of shape {tuple(pixels.shape)}, expected [N, F, 3, H, W]")
        self.pixels, self.fps = pixels, float(fps)
        self.count, self.size = int(pixels.shape[1]), (int(pixels.shape[3]), int(pixels.shape[4]))
        self.device = pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | Tensor) -> Videos:
        return Videos(self.pixels[rows], self.fps)

    def __repr__(self) -> str:
        height, width = self.size
        return f"<{len(self)} videos of {self.count} frames, {width}x{height}, {self.fps:g} frames per second>"

    def to(self, device: torch.device | str) -> Videos:
        """Return the videos with frames on a device."""
        return Videos(self.pixels.to(device), self.fps)

    def stored(self) -> Videos:
        """Return the videos with frames as bytes, as a file has them and a quarter of the memory; as they are if they
        are no numbers, which bytes would hide."""
        return Videos(_rounded(self.pixels), self.fps) if bool(torch.isfinite(self.pixels).all()) else self

    def each(self) -> Iterator[Tensor]:
        """Yield the frames of all videos one by one: float ``[N, 3, H, W]`` in [0, 1], copies."""
        for frame in self.pixels.unbind(dim=1):
            yield _levels(frame)

    def frames(self, indices: Sequence[int] | None = None) -> Tensor:
        """Return frames as float ``[N, k, 3, H, W]`` in [0, 1], a copy.

        Args:
            indices: k frames from 0 to ``count`` − 1; by default all, whose memory nothing bounds.
        """
        return _levels(self.pixels if indices is None else self.pixels[:, list(indices)])

    def chunks(self, overlap: int = 0) -> Iterator[Tensor]:
        """Yield consecutive frames in parts of bounded memory, float ``[N, f, 3, H, W]`` in [0, 1].

        Args:
            overlap: frames at the end of one part that begin the next one too. Each part has more than these, so that
                differences of neighbors are each seen once.
        """
        height, width = self.size
        most = max(1, CHUNK_PIXELS // (len(self) * height * width) - overlap)
        held: list[Tensor] = []
        fresh = 0
        for frame in self.each():
            held.append(frame)
            fresh += len(held) > overlap
            if fresh == most:
                yield torch.stack(held, dim=1)
                held, fresh = held[len(held) - overlap :], 0
        if fresh:
            yield torch.stack(held, dim=1)

    @classmethod
    def joined(cls, parts: Sequence[Videos]) -> Videos:
        """Concatenate videos of one length and size."""
        return Videos(torch.cat([part.pixels for part in parts]), parts[0].fps)


class VideoFile(Videos):
    """One video that stays in its file: its frames are decoded whenever they are asked for, one at a time."""

    def __init__(self, path: Path, facts: mp4.Facts, device: torch.device | str = "cpu") -> None:
        """Args: path: of a file that :func:`steer.models.media.mp4.checked` has passed; facts: what it said."""
        self._path, self._facts = path, facts
        self.fps, self.count, self.size = facts.fps, facts.count, (facts.height, facts.width)
        self.device = torch.device(device)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, rows: slice | Tensor) -> Videos:
        if len(range(1)[rows] if isinstance(rows, slice) else rows) != 1:
            raise IndexError("a video in a file is one row")
        return self

    def to(self, device: torch.device | str) -> VideoFile:
        """Return the video with frames on a device."""
        return VideoFile(self._path, self._facts, device)

    def each(self) -> Iterator[Tensor]:
        for frame in mp4.frames(self._path):
            yield _tensor(frame).to(self.device)

    def frames(self, indices: Sequence[int] | None = None) -> Tensor:
        wanted = range(self.count) if indices is None else indices
        found = {place: frame for place, frame in enumerate(self.each()) if place in set(wanted)}
        return torch.stack([found[place] for place in wanted], dim=1)


@dataclass(frozen=True, eq=False)
class Video:
    """One video.

    Attributes:
        frames: uint8 ``[F, H, W, 3]``.
        fps: frames per second.
    """

    frames: np.ndarray
    fps: float = FPS

    def __len__(self) -> int:
        return len(self.frames)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the frames before they are encoded, in hexadecimal: equal videos have equal ones."""
        shape = "x".join(map(str, self.frames.shape))
        return hashlib.sha256(shape.encode() + np.ascontiguousarray(self.frames).tobytes()).hexdigest()

    def pictures(self, indices: Iterable[int]) -> list[Image.Image]:
        """Return some frames as pictures."""
        return [Image.fromarray(self.frames[index]) for index in indices]


class VideoMedium(Medium):
    """Videos."""

    name: ClassVar[str] = "video"
    suffix: ClassVar[str] = ".mp4"
    suffixes: ClassVar[tuple[str, ...]] = (".m4v", ".mov", ".webm", ".mkv", ".avi")
    pictured: ClassVar[bool] = True
    made_of: ClassVar[str | None] = "image"

    def check(self) -> None:
        mp4.library()

    def values(self, samples: Videos) -> list[Video]:
        return [Video(_bytes(row), samples.fps) for row in samples.pixels]

    def samples(self, values: Sequence[Video], device: torch.device) -> Videos:
        frames = np.stack([value.frames for value in values])
        return Videos(torch.from_numpy(frames).permute(0, 1, 4, 2, 3).to(device), values[0].fps)

    def probe(self, size: tuple[int, int], device: torch.device) -> Videos:
        width, height = size
        return Videos(torch.rand(1, PROBE, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device))

    def finite(self, samples: Videos) -> bool:
        return samples.pixels.dtype is torch.uint8 or super().finite(samples.pixels)

    def stills(self, samples: Videos) -> Tensor:
        return samples.frames([samples.count // 2])[:, 0]

    def size(self, value: Video) -> dict[str, int]:
        return {"width": value.frames.shape[2], "height": value.frames.shape[1]}

    def planned_bytes(self, size: tuple[int, int], frames: int) -> int:
        return FILE_BYTES + round(PIXEL_BYTES * size[0] * size[1] * frames)

    def facts(self, value: Video) -> dict[str, Any]:
        return {"frames": len(value), "fps": value.fps}

    def picture(self, value: Video) -> Image.Image:
        """Return a filmstrip: frames from the first to the last, side by side."""
        return filmstrip(value.pictures(spread(STRIP, len(value))))

    def thumbnail(self, value: Video) -> bytes | None:
        (middle,) = value.pictures([len(value) // 2])
        return image_bytes(shrunk(middle, THUMBNAIL), "WEBP", quality=82)

    def encoded(self, value: Video, texts: Mapping[str, str]) -> bytes:
        return mp4.encoded(value.frames, value.fps, {**texts, DIGEST: value.digest})

    def texts_in(self, path: Path) -> Mapping[str, str]:
        return mp4.texts(path)

    def difference(self, file: bytes, value: Video) -> int:
        """Return 0 if the frames before encoding were the same.

        If not, the files are compared: 255 for another length or size, else the largest difference between the means of
        a channel over 16 by 16 pixels, at least 1. An encoding is chaotic: frames that differ by rounding lead to
        pixels that differ by ten levels and more, but not to other means.
        """
        if mp4.texts(file).get(DIGEST) == value.digest:
            return 0
        largest = 0.0
        again = mp4.frames(mp4.encoded(value.frames, value.fps, {}))
        for old, new in itertools.zip_longest(mp4.frames(file), again):
            if old is None or new is None or old.shape != new.shape:
                return 255
            largest = max(largest, float(np.abs(_block_means(old) - _block_means(new)).max()))
        return max(1, round(largest))


def spread(count: int, of: int) -> list[int]:
    """Return ``count`` indices from 0 to ``of`` − 1, evenly from the first to the last; the middle one if it is one.

    All of them if there are fewer.
    """
    if count >= of:
        return list(range(of))
    return [of // 2] if count == 1 else [round(place * (of - 1) / (count - 1)) for place in range(count)]


def filmstrip(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one size side by side, none larger than ``STRIP_SIDE``."""
    small = [shrunk(picture, STRIP_SIDE) for picture in pictures]
    width, height = small[0].size
    strip = Image.new("RGB", (len(small) * (width + STRIP_GAP) - STRIP_GAP, height), "white")
    for place, picture in enumerate(small):
        strip.paste(picture, (place * (width + STRIP_GAP), 0))
    return strip


def _levels(pixels: Tensor) -> Tensor:
    """Return pixels as float in [0, 1], a copy."""
    return pixels.float() / 255 if pixels.dtype is torch.uint8 else pixels.clone()


def _tensor(frame: np.ndarray) -> Tensor:
    return _levels(torch.from_numpy(frame).permute(2, 0, 1)[None])


def _bytes(pixels: Tensor) -> np.ndarray:
    """Return the frames of one video ``[F, 3, H, W]`` as uint8 ``[F, H, W, 3]``."""
    return np.ascontiguousarray(_rounded(pixels).permute(0, 2, 3, 1).cpu().numpy())


def _rounded(pixels: Tensor) -> Tensor:
    """Return pixels as uint8."""
    return pixels if pixels.dtype is torch.uint8 else (pixels.detach().clamp(0, 1) * 255).round().to(torch.uint8)


def _block_means(frame: np.ndarray) -> np.ndarray:
    """Return the means of a frame's channels over blocks; those at the right and lower edge may be smaller."""
    means = frame.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, frame.shape[axis], BLOCK)
        lengths = np.diff(starts, append=frame.shape[axis])
        means = np.add.reduceat(means, starts, axis=axis) / lengths.reshape(-1, *[1] * (2 - axis))
    return means
