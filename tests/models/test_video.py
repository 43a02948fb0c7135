"""Videos: samples, values and files; hostile files are refused in one line, and memory is bounded."""

from __future__ import annotations

import random
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from support.clips import noisy_square

from steer import SteerError
from steer.models.media import media_at, media_of, mp4
from steer.models.media.media import joined
from steer.models.media.video import DIGEST, Video, VideoFile, Videos, filmstrip, spread

CPU = torch.device("cpu")
VIDEO = media_of("video")


def test_samples_are_indexed_joined_and_copied() -> None:
    pixels = torch.rand(3, 5, 3, 4, 6)
    videos = Videos(pixels, 12.5)
    assert (len(videos), videos.count, videos.size, videos.fps) == (3, 5, (4, 6), 12.5)
    rows = joined([videos[torch.tensor([2, 0])], videos[1:2]])
    assert torch.equal(rows.frames(), pixels[[2, 0, 1]]) and rows.fps == 12.5
    assert torch.equal(videos.frames([4, 1]), pixels[:, [4, 1]])
    videos.frames().zero_(), next(videos.each()).zero_()
    assert torch.equal(videos.pixels, pixels)
    with pytest.raises(ValueError, match="expected \\[N, F, 3, H, W\\]"):
        Videos(torch.rand(5, 3, 4, 6))


def test_parts_of_bounded_memory_hold_every_frame_and_every_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = Videos(torch.rand(2, 11, 3, 4, 4))
    for room in (1, 3, 4, 7, 100):
        monkeypatch.setattr("steer.models.media.video.CHUNK_PIXELS", room * 2 * 4 * 4)
        for overlap in (0, 1, 2):
            parts = list(videos.chunks(overlap))
            assert max(part.shape[1] for part in parts) <= max(room, overlap + 1)
            whole = torch.cat([parts[0], *(part[:, overlap:] for part in parts[1:])], dim=1)
            assert torch.equal(whole, videos.pixels)


def test_bytes_are_what_is_stored_unless_they_would_hide_what_is_no_number() -> None:
    pixels = torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 2).contiguous()
    stored = Videos(pixels, 5).stored()
    assert stored.pixels[0, :, 0, 0, 0].tolist() == [0, 64, 255] and stored.fps == 5
    pixels[0, 1, 2, 1, 1] = torch.nan
    assert not VIDEO.finite(Videos(pixels).stored()) and VIDEO.finite(stored)


def test_gradients_pass() -> None:
    pixels = torch.rand(1, 4, 3, 2, 2, requires_grad=True)
    sum(part.sum() for part in Videos(pixels).chunks(1)).backward()
    assert pixels.grad is not None and pixels.grad[0, :, 0, 0, 0].tolist() == [1, 1, 1, 1]


def test_a_value_is_written_and_read_back() -> None:
    frames = noisy_square()
    value, other = Video(frames, 12.5), Video(frames.copy(), 8)
    samples = VIDEO.samples([value, value], CPU)
    assert samples.pixels.dtype is torch.uint8 and samples.fps == 12.5 and len(samples) == 2
    assert [np.array_equal(again.frames, frames) for again in VIDEO.values(samples)] == [True, True]
    floats = Videos(samples.frames())
    assert np.array_equal(VIDEO.values(floats)[1].frames, frames)
    assert value.digest == other.digest != Video(frames[1:]).digest
    data = VIDEO.encoded(value, {"steer": "{}", "parameters": "näh\n"})
    assert data == VIDEO.encoded(value, {"steer": "{}", "parameters": "näh\n"})
    texts = mp4.texts(data)
    assert (texts["steer"], texts["parameters"], texts[DIGEST]) == ("{}", "näh\n", value.digest)
    read = np.stack(list(mp4.frames(data)))
    assert read.shape == frames.shape and np.abs(read.astype(int) - frames).mean() < 12
    assert VIDEO.facts(value) == {"frames": 12, "fps": 12.5} and VIDEO.size(value) == {"width": 48, "height": 32}


@pytest.mark.slow
def test_what_differs_before_encoding_is_told_with_how_much_the_files_do() -> None:
    frames = noisy_square()
    data = VIDEO.encoded(Video(frames), {})
    nudged = frames.copy()
    nudged[3, 10, 10] ^= 1
    assert VIDEO.difference(data, Video(frames, 30)) == 0
    assert VIDEO.difference(data, Video(nudged)) == 1  # rounding
    brighter = frames.copy()
    brighter[5, :16, :16] = brighter[5, :16, :16] // 2 + 60
    assert VIDEO.difference(data, Video(brighter)) > 10
    assert VIDEO.difference(data, Video(frames[:-1])) == VIDEO.difference(data, Video(frames[:, :-2])) == 255


def test_colors_survive() -> None:
    for color in ((255, 40, 0), (10, 200, 90), (255, 255, 255), (0, 0, 0)):
        flat = np.full((3, 16, 16, 3), color, np.uint8)
        (first, *_) = mp4.frames(mp4.encoded(flat, 8, {}))
        assert np.abs(first.astype(int) - flat[0]).max() <= 4


@pytest.mark.parametrize("shape", [(1, 17, 33, 3), (3, 2, 2, 3), (1, 1, 1, 3)])
def test_odd_sizes_gain_a_row_and_a_column(shape: tuple[int, ...]) -> None:
    (first, *_) = mp4.frames(mp4.encoded(np.full(shape, 200, np.uint8), 8, {}))
    assert first.shape == (shape[1] + shape[1] % 2, shape[2] + shape[2] % 2, 3)


def test_a_filmstrip_goes_from_the_first_frame_to_the_last() -> None:
    levels = np.repeat(np.arange(0, 100, 10, dtype=np.uint8), 8 * 8 * 3).reshape(10, 8, 8, 3)
    strip = np.asarray(VIDEO.picture(Video(levels)))
    assert strip.shape == (8, 4 * 8 + 3 * 2, 3) and strip[0, ::10, 0].tolist() == [0, 30, 60, 90]
    assert filmstrip([Image.new("RGB", (1000, 500))]).size == (256, 128)
    assert (spread(4, 2), spread(1, 9), spread(2, 9), spread(3, 4)) == ([0, 1], [4], [0, 8], [0, 2, 3])
    assert torch.equal(VIDEO.stills(VIDEO.samples([Video(levels)], CPU))[0, 0] * 255, torch.full((8, 8), 50.0))


def test_a_video_in_a_file_is_decoded_when_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.MP4"
    file.write_bytes(VIDEO.encoded(Video(noisy_square(), 12.5), {}))
    facts = mp4.checked(file)
    assert facts == mp4.Facts(12, 48, 32, 12.5) and media_at(file) is VIDEO
    video = VideoFile(file, facts)
    held = VIDEO.samples([Video(np.stack(list(mp4.frames(file))), 12.5)], CPU)
    assert torch.equal(video.frames(), held.frames()) and torch.equal(video.frames([7, 0, 7]), held.frames([7, 0, 7]))
    assert torch.equal(torch.cat(list(video.chunks()), dim=1), held.frames())
    assert (len(video), video.count, video.size) == (1, 12, (32, 48)) and video[0:1] is video


def container(form: str, codec: str, width: int = 48, height: int = 32, count: int = 3) -> bytes:
    """Return a file of another tool."""
    file = BytesIO()
    with av.open(file, "w", format=form) as out:
        stream = out.add_stream(codec, rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(count):
            out.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "codec"), [("matroska", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mov", "libx264")]
)
def test_files_of_other_tools_are_read(form: str, codec: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(container(form, codec))
    assert mp4.checked(tmp_path / "a") == mp4.Facts(3, 48, 32, 8.0)


def hostile(kind: str) -> bytes:
    good = VIDEO.encoded(Video(noisy_square()), {})
    sound = BytesIO()
    with av.open(sound, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame)), out.mux(stream.encode(None))
    picture = BytesIO()
    Image.new("RGB", (20, 20)).save(picture, "PNG")
    return {
        "empty": b"",
        "text": b"hello" * 100,
        "random": random.Random(0).randbytes(5000),
        "cut": good[: len(good) // 2],
        "picture": picture.getvalue(),
        "sound": sound.getvalue(),
        # FFmpeg would open the files and addresses that these name
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///%b\n#EXT-X-ENDLIST\n" % b"etc/hostname",
        "list": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "random", "cut", "picture", "sound", "playlist", "list"])
def test_what_is_no_video_is_told_in_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"{kind}.mp4"
    file.write_bytes(hostile(kind))
    with pytest.raises(SteerError, match=rf"^video \S+{kind}\.mp4 cannot be read: it (is damaged, or no|has no)"):
        mp4.checked(file)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_flipped_bits_are_refused_or_decoded_and_nothing_else(tmp_path: Path) -> None:
    good = VIDEO.encoded(Video(noisy_square(seed=3)), {})
    draw, refused = random.Random(1), 0
    start = good.find(b"mdat") + 800  # behind the encoder's greeting
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(3):
            bad[draw.randrange(start, len(good))] ^= 1 << draw.randrange(8)
        try:
            (tmp_path / "a").write_bytes(bad)
            mp4.checked(tmp_path / "a")
        except SteerError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_frames_and_files_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(container("mp4", "libx264", 640, 320))
    monkeypatch.setattr(mp4, "MAX_PIXELS", 2 * 640 * 320)
    with pytest.raises(SteerError, match="more than 409,600 pixels in all frames"):
        mp4.checked(file)
    monkeypatch.setattr(mp4, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(SteerError, match="its frames have 640x320 pixels, more than 1,000"):
        mp4.texts(file)
    with pytest.raises(SteerError, match="does not exist"):
        mp4.texts(tmp_path / "none.mp4")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SteerError, match=r"videos need PyAV: pip install 'steer-diffusion\[video\]'"):
        VIDEO.check()
