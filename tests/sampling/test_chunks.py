"""Chunks of one size, halved where memory runs out."""

from __future__ import annotations

import weakref

import pytest
import torch

from steer import SteerError
from steer.sampling.chunks import Chunks, default_chunk, during


@pytest.mark.parametrize("particles", range(1, 200))
def test_the_default_divides_the_particles_or_nearly_so(particles: int) -> None:
    for device, most in (("cpu", 8), ("cuda", 16)):
        size = default_chunk(device, particles)
        assert 1 <= size <= most
        assert size == particles or particles > most
        forwards = -(-particles // size)
        assert forwards * size - particles < forwards  # no row of padding per forward
        assert forwards <= 4 / 3 * -(-particles // most)


def test_the_default_of_a_few_populations() -> None:
    cases = {1: 1, 4: 4, 5: 5, 8: 8, 9: 5, 10: 5, 11: 6, 12: 6, 13: 7, 16: 8, 17: 6, 22: 8, 55: 8, 64: 8}
    assert {particles: default_chunk("cpu", particles) for particles in cases} == cases
    assert [default_chunk("cuda", particles) for particles in (1, 4, 16, 17, 20, 24, 32)] == [1, 4, 16, 9, 10, 12, 16]


@pytest.mark.parametrize(("size", "count", "padding"), [(4, 8, 0), (4, 9, 3), (4, 1, 3), (1, 5, 0)])
def test_every_call_has_the_same_size_and_padding_is_dropped(size: int, count: int, padding: int) -> None:
    sizes = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return 2 * rows

    out, padded = Chunks(size).map(double, count)
    assert out.tolist() == [2 * i for i in range(count)]
    assert set(sizes) == {size}
    assert padded == padding


def test_out_of_memory_halves_the_size_for_good_and_nothing_is_lost() -> None:
    def needs_room(rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rows

    chunks = Chunks(8)
    out, _ = chunks.map(needs_room, 11)
    assert out.tolist() == list(range(11))
    assert chunks.size == 2


@pytest.mark.parametrize("words", [
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
    "MPS backend out of memory (MPS allocated: 8.9 GB, max allowed: 9.07 GB). Tried to allocate 1 GB on private pool.",
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory",
])  # fmt: skip
def test_libraries_say_in_their_own_words_that_memory_ran_out(words: str) -> None:
    def needs_room(rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > 1:
            raise RuntimeError(words)
        return rows

    assert Chunks(2).map(needs_room, 3)[0].tolist() == [0, 1, 2]


def test_what_a_library_cannot_do_is_no_lack_of_memory() -> None:
    words, tried = "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a …", []

    def refused(rows: torch.Tensor) -> torch.Tensor:
        tried.append(len(rows))
        raise RuntimeError(words)

    with pytest.raises(RuntimeError, match="NOT_SUPPORTED"):
        Chunks(4).map(refused, 4)
    assert tried == [4]


@pytest.mark.parametrize(
    "call", [lambda chunks, full: chunks.map(full, 1), lambda chunks, full: chunks.once("encoding texts", full)]
)
def test_the_error_names_its_cause_and_keeps_no_tensor_alive(call) -> None:
    alive = []

    def full(*_: object) -> torch.Tensor:
        activations = torch.zeros(3)
        alive.append(weakref.ref(activations))
        try:
            raise ValueError("a detail")
        except ValueError:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB") from None

    with pytest.raises(SteerError, match="out of memory while") as caught:
        call(Chunks(1), full)
    assert "2 GiB" in str(caught.value.__cause__)
    assert alive[0]() is None


def test_rows_in_batches_of_their_own_are_halved_from_there() -> None:
    sizes = []

    def needs_room(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        together = min(4, len(rows))
        with during("decoding", rows=together):
            if together > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rows

    chunks = Chunks(16)
    assert chunks.map(needs_room, 4)[0].tolist() == [0, 1, 2, 3]
    assert sizes == [16, 2, 2]  # 8 would have been decoded by fours as well


def test_one_row_that_does_not_fit_is_the_end() -> None:
    def never(rows: torch.Tensor) -> torch.Tensor:
        with during("differentiating"), during("decoding"):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(
        SteerError, match="out of memory while decoding, with one row at a time: use --vae-memory tiling"
    ):
        Chunks(4).map(never, 4)


GROUPS = [2, 0, 2, 2, 0, 1, 2, 0, 2]


def test_groups_never_share_a_chunk_and_rows_come_back_in_order() -> None:
    groups, chunks = torch.tensor(GROUPS), []

    def double(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chunks.append(rows)
        return 2 * rows, rows.new_ones(len(rows), 3) * rows[:, None]

    (out, wide), padded = Chunks(2).map_several(double, len(groups), groups)
    assert out.tolist() == [2 * i for i in range(len(groups))]
    assert wide.tolist() == [[i] * 3 for i in range(len(groups))]
    assert all(len(rows) == 2 and len(groups[rows].unique()) == 1 for rows in chunks)
    # groups of 3, 1 and 5 rows fill 2 + 1 + 3 chunks
    assert len(chunks) == 6
    assert padded == 6 * 2 - len(groups)


def test_out_of_memory_within_a_group_loses_nothing_and_mixes_nothing() -> None:
    groups, mixed = torch.tensor(GROUPS), []

    def needs_room(rows: torch.Tensor) -> torch.Tensor:
        mixed.append(len(groups[rows].unique()) > 1)
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rows

    chunks = Chunks(8)
    out, padded = chunks.map(needs_room, len(groups), groups)
    assert out.tolist() == list(range(len(groups)))
    assert not any(mixed)
    assert chunks.size == 2
    assert padded == 3  # one in each group, all in chunks of the size that fits
