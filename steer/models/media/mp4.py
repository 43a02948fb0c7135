"""Video files: frames to MP4 (H.264) with texts, and frames and texts of untrusted files, one frame at a time.

PyAV is used and not imageio-ffmpeg, which is twice as large, starts a program for each file, and has no texts.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from steer.errors import SteerError, message_of

log = logging.getLogger(__name__)

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""Containers that are read. FFmpeg knows others that name further files and addresses, which it would open."""
MAX_FRAME_PIXELS = 10_000_000
"""Pixels of the largest frame that is read, a little more than 4K: a decoder keeps up to 17 frames."""
MAX_PIXELS = 20_000_000_000
"""Pixels of all frames together: a file of a megabyte could decode for days."""
QUALITY = {"crf": "17", "preset": "medium"}
"""x264's options: compression that is hardly seen."""
THREADS = 4
"""Threads of the encoder: fixed, since its bits depend on their number."""
BT709, LIMITED = 1, 1
"""FFmpeg's numbers of the color space and range of HD video."""


@dataclass(frozen=True)
class Facts:
    """What a video file holds.

    Attributes:
        count: frames.
        width: of each, in pixels.
        height: of each, in pixels.
        fps: frames per second; 0 if the file does not say.
    """

    count: int
    width: int
    height: int
    fps: float


def library() -> Any:
    """Return PyAV.

    Raises:
        SteerError: if it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise SteerError(f"videos need PyAV: pip install 'steer-diffusion[video]' ({message_of(error)})") from None


def encoded(frames: np.ndarray, fps: float, texts: Mapping[str, str]) -> bytes:
    """Return frames as an MP4 that browsers and players show; the same frames give the same bytes.

    Args:
        frames: uint8 ``[F, H, W, 3]``. H.264 halves the resolution of colors: an odd last row or column comes twice.
        fps: frames per second.
        texts: kept among the file's metadata.
    """
    av = library()
    frames = np.pad(frames, [(0, 0), *((0, side % 2) for side in frames.shape[1:3]), (0, 0)], mode="edge")
    file = BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(texts)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=QUALITY)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        codec = stream.codec_context
        codec.thread_count = THREADS
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return file.getvalue()


def texts(source: Path | bytes) -> dict[str, str]:
    """Return the texts in a file's metadata, without decoding it.

    Raises:
        SteerError: if it is no video.
    """
    with _opened(source) as (container, _):
        return dict(container.metadata)


def frames(source: Path | bytes) -> Iterator[np.ndarray]:
    """Yield the frames of a file in order, uint8 ``[H, W, 3]``; only one is in memory.

    Raises:
        SteerError: if the file is no video, is damaged, or is far too large.
    """
    with _opened(source) as (container, stream):
        first: tuple[int, ...] | None = None
        left, declared, found = MAX_PIXELS, stream.frames, 0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise SteerError("it is damaged or cut off")
            for picture in packet.decode():
                _check_size(picture.width, picture.height)
                left -= picture.width * picture.height
                if left < 0:
                    raise SteerError(f"it has more than {MAX_PIXELS:,} pixels in all frames")
                frame = picture.to_ndarray(format="rgb24")
                first = first or frame.shape
                if frame.shape != first:
                    raise SteerError("its frames differ in size")
                found += 1
                yield frame
        if not found:
            raise SteerError("it has no frame")
        if found < declared:
            raise SteerError(f"it is damaged or cut off: {found} of {declared} frames are there")


def checked(path: Path) -> Facts:
    """Decode a whole file, keeping no frame, and return what it holds.

    Raises:
        SteerError: see :func:`frames`.
    """
    count, shape = 0, (0, 0)
    for frame in frames(path):
        count, shape = count + 1, frame.shape[:2]
    with _opened(path) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate or 0
    return Facts(count, shape[1], shape[0], float(rate))


@contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[Any, Any]]:
    """Open a file and its first stream of video; whatever goes wrong within the block is an error of the file."""
    av = library()
    name = "video" if isinstance(source, bytes) else f"video {source}"
    try:
        # a file object and not a path: FFmpeg reads some names as addresses
        stored = BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except FileNotFoundError:
        raise SteerError(f"{name} does not exist") from None
    except OSError as error:
        raise SteerError(f"{name} cannot be read: {error.strerror or error}") from None
    try:
        with (
            stored as file,
            av.open(file, options={"format_whitelist": FORMATS}, metadata_errors="replace") as container,
        ):
            if not container.streams.video:
                raise SteerError("it has no pictures")
            stream = container.streams.video[0]
            _check_size(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = {"err_detect": "explode"}  # no frame is patched up
            yield container, stream
    except SteerError as error:
        raise SteerError(f"{name} cannot be read: {error}") from None
    # decoders may raise anything for hostile files; what they say helps nobody
    except Exception as error:
        log.debug("%s cannot be read", name, exc_info=True)
        what = "is too large for this machine's memory" if isinstance(error, MemoryError) else "is damaged, or no video"
        raise SteerError(f"{name} cannot be read: it {what}") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise SteerError(f"its frames have {width}x{height} pixels, more than {MAX_FRAME_PIXELS:,}")
