"""A benchmark's prompts: found, checked by their checksum, cut into parts."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from steer import Prompt, SteerError
from steer.evaluate.bench.benchmark import Benchmark, Measure, PromptFile
from steer.evaluate.bench.prompts import digest_of, parse_shard, prompts_of, some
from steer.plugin import parse_prompts

DATA = b'{"prompt": "a cat"}\n{"prompt": "a dog"}\n'
SHA256 = hashlib.sha256(DATA).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA, usedforsecurity=False).hexdigest()


def benchmark(**checksum: str) -> Benchmark:
    file = PromptFile("prompts.jsonl", "http://127.0.0.1:9/prompts.jsonl", "somebody", "MIT", **checksum)
    return Benchmark(
        "Mine", "nowhere", lambda files: parse_prompts(files["prompts.jsonl"], name="x", kind="jsonl"),
        (Measure("m", "jpeg"),), files=(file,),
    )  # fmt: skip


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"git": GIT}, {}])
def test_a_copy_of_ones_own_is_read_from_a_file_or_its_folder(tmp_path: Path, checksum: dict[str, str]) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(DATA)
    for given in (tmp_path, tmp_path / "prompts.jsonl"):
        assert prompts_of("mine", benchmark(**checksum), given) == ["a cat", "a dog"]


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"git": GIT}])
def test_another_file_is_refused(tmp_path: Path, checksum: dict[str, str]) -> None:
    (tmp_path / "prompts.jsonl").write_bytes(DATA.replace(b"cat", b"cow"))
    with pytest.raises(
        SteerError, match=r"prompts .*prompts\.jsonl are not the prompts\.jsonl that mine is defined by"
    ):
        prompts_of("mine", benchmark(**checksum), tmp_path)
    with pytest.raises(SteerError, match=r"there is no prompts\.jsonl; fetch it from http://127\.0\.0\.1:9/prompts"):
        prompts_of("mine", benchmark(**checksum), tmp_path / "nowhere")


def test_one_file_does_not_stand_for_several(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(DATA)
    two = replace(benchmark(), files=tuple(replace(benchmark().files[0], name=f"{name}.jsonl") for name in "ab"))
    with pytest.raises(SteerError, match=r"mine has 2 files \(a\.jsonl, b\.jsonl\); give their folder"):
        prompts_of("mine", two, tmp_path / "a.jsonl")
    with pytest.raises(SteerError, match=r"there is no b\.jsonl; fetch it from"):
        prompts_of("mine", two, tmp_path)


def test_without_the_file_and_its_server_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    with pytest.raises(
        SteerError, match=r"mine needs prompts\.jsonl of somebody, .*127\.0\.0\.1 cannot be reached"
    ) as caught:
        prompts_of("mine", benchmark(sha256=SHA256))
    assert "--prompts PATH" in str(caught.value) and "\n" not in str(caught.value)


def test_a_limit_is_spread_over_all_prompts_and_a_shard_is_a_part() -> None:
    prompts = [Prompt(str(number)) for number in range(10)]
    assert some(prompts, 4) == ["0", "2", "5", "7"] and some(prompts, 99) == some(prompts, None) == prompts
    assert parse_shard("2/3") == (2, 3) and parse_shard(None) is None
    parts = [prompts[number - 1 :: 3] for number in (1, 2, 3)]
    assert sorted(prompt for part in parts for prompt in part) == sorted(prompts)
    for text in ("0/3", "4/3", "1", "a/b", "1/", "-1/3", "1/99999", "²/3"):
        with pytest.raises(SteerError, match=r"shard .*: expected NUMBER/COUNT"):
            parse_shard(text)


def test_the_digest_counts_everything_that_belongs_to_a_prompt() -> None:
    one = [Prompt("a cat", metadata={"x": 1})]
    assert digest_of(one) == digest_of([Prompt("a cat", metadata={"x": 1})])
    assert digest_of(one) != digest_of([Prompt("a cat", metadata={"x": 2})])
