"""The page in a real browser, opened from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from support.pages import EVIL, write_run, write_videos
from support.traces import LINES, SHRINKS

from steer.errors import SteerError
from steer.render.page import build_page
from steer.results.storage import LocalStorage

COUNT = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same prompts, one of them large, in a folder whose name must be quoted."""
    root = tmp_path_factory.mktemp("page") / "a #run? 100%"
    write_run(root / "fk", COUNT, shift=0.5, thumbnails=True)
    write_run(root / "plain", 100)
    page = build_page(LocalStorage(root))
    assert page is not None and (page.images, page.runs, page.failed) == (COUNT + 100, 2, 2)
    return root


@pytest.fixture
def page(browser: webdriver.Chrome, folder: Path, wait: Callable[[str], Any]) -> webdriver.Chrome:
    browser.get("about:blank")
    browser.get((folder / "index.html").as_uri())
    wait("document.documentElement.dataset.ready")
    return browser


def test_its_lines_are_those_of_the_picture(page) -> None:
    for trace, lines in LINES:
        found = page.execute_script("return linesOf(arguments[0])", trace)
        parents = [(line.get("parent") or {}).get("slot") for line in found]
        assert {
            (line["slot"], line["start"], line["stop"], parent, bool(line.get("lives")))
            for line, parent in zip(found, parents, strict=True)
        } == lines
    chosen = page.execute_script("return linesOf(arguments[0], 1)", SHRINKS)
    assert [(line["slot"], line["start"]) for line in chosen if line.get("mine")] == [(3, 0), (1, 2)]


def count(page: webdriver.Chrome) -> int:
    return int(page.find_element(By.ID, "count").text.split()[0].replace(",", ""))


def captions(page: webdriver.Chrome) -> list[str]:
    """Return what the tiles in view say, in order."""
    tiles = "[...grid.shown].sort((a, b) => a[0] - b[0]).map(([_, tile]) => tile)"
    return page.execute_script(f"return {tiles}.map((tile) => tile.querySelector('.caption').textContent)")


def choose(page: webdriver.Chrome, control: str, value: str) -> None:
    """Set a select or a slider."""
    page.execute_script(
        "const control = document.getElementById(arguments[0]); control.value = arguments[1];"
        "for (const event of ['input', 'change']) control.dispatchEvent(new Event(event))",
        control,
        value,
    )


@pytest.mark.thorough
def test_ten_thousand_images_are_a_handful_of_elements(page: webdriver.Chrome, wait: Callable[[str], Any]) -> None:
    assert count(page) == COUNT + 100
    assert page.execute_script("return document.querySelectorAll('.tile').length") < 200
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert sum("details-" in name for name in loaded) == 0  # until one is looked at
    page.execute_script("scrollTo(0, document.body.scrollHeight)")
    wait("grid.shown.has(steer.entries.length - 1)")
    assert page.execute_script("return document.querySelectorAll('.tile').length") < 200
    wait("[...document.querySelectorAll('.tile img')].every((image) => image.complete && image.naturalWidth > 0)")
    assert not [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_search_category_reward_and_order(page: webdriver.Chrome) -> None:
    search = page.find_element(By.ID, "query")
    search.send_keys("RED 77")
    assert count(page) == sum("77" in str(n) and n % 2 == 1 for n in range(COUNT)) + 1  # prompt 77 is in both runs
    page.find_element(By.ID, "reset").click()
    assert count(page) == COUNT + 100
    page.execute_script(
        "const s = document.getElementById('category'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    assert count(page) == sum(n % 3 == 1 for n in range(COUNT)) + sum(n % 3 == 1 for n in range(100))
    page.find_element(By.ID, "reset").click()
    page.execute_script(
        "const s = document.getElementById('low'); s.value = '900'; s.dispatchEvent(new Event('input'))"
    )
    rewards = [n * 37 % 1000 / 1000 + 0.5 for n in range(COUNT)] + [n * 37 % 1000 / 1000 for n in range(100)]
    least = min(rewards) + 0.9 * (max(rewards) - min(rewards))
    assert count(page) == sum(reward >= least for reward in rewards)
    page.find_element(By.ID, "reset").click()
    page.execute_script(
        "const s = document.getElementById('sort'); s.value = 'best'; s.dispatchEvent(new Event('change'))"
    )
    shown = page.execute_script("return visible.slice(0, 2000).map((entry) => entry.reward)")
    assert shown == sorted(shown, reverse=True) and shown[0] == max(rewards)
    page.execute_script(
        "const s = document.getElementById('sort'); s.value = 'worst'; s.dispatchEvent(new Event('change'))"
    )
    assert page.execute_script("return visible[0].reward") == min(rewards)
    page.find_element(By.ID, "query").send_keys("nothing has this")
    assert page.find_element(By.ID, "nothing").is_displayed()


def test_what_came_from_a_prompt_is_text(page: webdriver.Chrome, wait: Callable[[str], Any]) -> None:
    page.find_element(By.ID, "query").send_keys("onerror")
    assert captions(page) == [EVIL, EVIL]
    page.find_element(By.CSS_SELECTOR, ".tile").click()
    wait("document.querySelector('#detail .command')")
    assert page.find_element(By.CSS_SELECTOR, "#detail h2").text == EVIL
    page.find_element(By.ID, "back").click()
    page.find_element(By.ID, "failures").click()
    assert EVIL in page.find_element(By.ID, "failed").text
    assert page.title != "owned"
    assert page.execute_script("return document.querySelectorAll('img[src=x], body script:not([src])').length") == 1


def test_the_page_of_an_image(page: webdriver.Chrome, wait: Callable[[str], Any], folder: Path) -> None:
    page.find_element(By.CSS_SELECTOR, ".tile").click()
    wait("document.querySelectorAll('#detail .command').length === 2")
    detail = page.find_element(By.ID, "detail")
    for text in ("prompt 0 of a blue thing", "5 steps, guidance 4, 3 particles, DDIM", "fk/images/0.png", "color"):
        assert text in detail.text
    assert len(detail.find_elements(By.CSS_SELECTOR, "svg.chart")) == 2
    assert len(detail.find_elements(By.CSS_SELECTOR, "svg[aria-label^=Genealogy] circle")) == 6
    # both runs drew this prompt
    assert len(detail.find_elements(By.CSS_SELECTOR, ".beside a")) == 2
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    wait("detail.entry.index === 1")
    page.back()
    page.back()
    wait("document.getElementById('detail').hidden")
    page.get(f"{(folder / 'index.html').as_uri()}#image/plain%2Fimages%2F2.png")  # a link to an image
    wait("detail.entry && !document.getElementById('detail').hidden")
    assert "prompt 2 of a blue thing" in page.find_element(By.ID, "detail").text


def test_the_copied_command_is_the_one_shown(page: webdriver.Chrome, wait: Callable[[str], Any]) -> None:
    page.find_element(By.CSS_SELECTOR, ".tile").click()
    wait("document.querySelectorAll('#detail .command').length === 2")
    replay, generate = page.find_elements(By.CSS_SELECTOR, "#detail .command")
    expected = generate.find_element(By.TAG_NAME, "code").get_attribute("textContent")
    assert expected == (
        "steer generate 'prompt 0 of a blue thing' -m tiny -p fk -r shapes -o fk.lambda=2.0 -n 3 --steps 5 "
        "--guidance 4 --eta 1 --chunk 4 --size 16x16 --seed 0 --choose best"
    )
    assert "steer replay " in replay.text
    generate.find_element(By.TAG_NAME, "button").click()
    wait("[...document.querySelectorAll('.copy')].some((button) => button.textContent === 'Copied')")
    page.find_element(By.ID, "back").click()
    search = page.find_element(By.ID, "query")
    search.send_keys(Keys.CONTROL, "v")
    assert search.get_attribute("value") == expected


def test_picks_are_kept_and_copied_as_a_list_of_files(
    page: webdriver.Chrome, wait: Callable[[str], Any], folder: Path
) -> None:
    page.execute_script("[...document.querySelectorAll('.tile .star')].slice(0, 2).forEach((star) => star.click())")
    page.execute_script("go(steer.entries[5])")
    page.find_element(By.TAG_NAME, "body").send_keys("p")
    page.execute_script("go(null)")
    page.refresh()
    wait("document.documentElement.dataset.ready")
    button = page.find_element(By.ID, "picked")
    assert button.text == "★ 3 picked"
    button.click()
    assert count(page) == 3
    page.execute_script("window.copied = null; copy = (text) => { window.copied = text; return true }")
    page.find_element(By.ID, "copy-picks").click()
    assert wait("window.copied").splitlines() == [f"{folder}/fk/images/{number}.png" for number in (0, 1, 5)]
    page.execute_script("localStorage.clear()")


def test_runs_side_by_side(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "as-compare").click()
    headings = [heading.text for heading in page.find_elements(By.CSS_SELECTOR, "#columns > div")]
    assert headings[0].startswith("fk mean reward") and headings[1].startswith("plain mean reward")
    row = page.find_element(By.CSS_SELECTOR, ".pair")
    assert "prompt 0 of a blue thing" in row.text
    cells = row.find_elements(By.CSS_SELECTOR, ".cells")
    assert [len(cell.find_elements(By.TAG_NAME, "a")) for cell in cells] == [1, 1]
    assert page.execute_script("return document.querySelectorAll('.pair').length") < 40
    best = row.find_elements(By.CSS_SELECTOR, ".best")
    assert len(best) == 1 and "0.500" in best[0].text


def test_a_run_that_cannot_be_read_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 2)
    write_run(tmp_path / "b", 2)
    build_page(LocalStorage(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    (tmp_path / "b" / "details.jsonl").unlink()
    (tmp_path / "b" / "details.jsonl").mkdir()
    write_run(tmp_path / "0", 2)
    with pytest.raises(SteerError, match="cannot be read"):
        build_page(LocalStorage(tmp_path))
    assert {path: path.read_bytes() for path in (tmp_path / "page").iterdir()} == before


@pytest.mark.parametrize("thumbnails", [True, False])
def test_clips_play_where_one_points_and_are_shown_as_nothing_but_clips(
    browser: webdriver.Chrome, wait: Callable[[str], Any], tmp_path: Path, thumbnails: bool
) -> None:
    write_videos(tmp_path, 4, thumbnails=thumbnails)
    build_page(LocalStorage(tmp_path))
    browser.get("about:blank")
    browser.get((tmp_path / "index.html").as_uri())
    wait("document.documentElement.dataset.ready")
    assert browser.find_element(By.ID, "count").text == "4 videos"
    clip = "document.querySelector('.tile video')"
    if thumbnails:
        wait(f"{clip}.poster.startsWith('data:image/webp')")
    assert browser.execute_script(f"return {clip}.paused && {clip}.muted")
    tile = browser.find_element(By.CSS_SELECTOR, ".tile a")
    webdriver.ActionChains(browser).move_to_element(tile).perform()
    wait(f"!{clip}.paused && {clip}.currentTime > 0 && {clip}.videoWidth === 48")
    webdriver.ActionChains(browser).move_to_element(browser.find_element(By.ID, "title")).perform()
    wait(f"{clip}.paused && {clip}.currentTime === 0")
    browser.find_elements(By.CSS_SELECTOR, ".tile a")[1].click()  # its prompt is hostile
    wait("document.querySelector('#detail video') && document.querySelector('#detail video').currentTime > 0")
    assert browser.find_element(By.CSS_SELECTOR, "#detail h2").text == EVIL
    assert "Reproduce this video" in browser.find_element(By.ID, "detail").get_attribute("textContent")
    assert browser.title != "owned" and not browser.find_elements(By.CSS_SELECTOR, "img[src=x]")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_run_and_its_baseline_stand_side_by_side_and_reports_are_linked(
    browser: webdriver.Chrome, wait: Callable[[str], Any], tmp_path: Path
) -> None:
    write_run(tmp_path / "a", 3, shift=0.5)
    write_run(tmp_path / "a" / "plain", 3)
    (tmp_path / "b #1").mkdir()
    for name in ("report.html", "summary.json"):
        (tmp_path / "b #1" / name).write_text("{}")
    (tmp_path / "report.html").write_text("somebody's")
    assert build_page(LocalStorage(tmp_path)) is not None
    browser.get("about:blank")
    browser.get((tmp_path / "index.html").as_uri())
    wait("document.documentElement.dataset.ready")
    assert browser.find_element(By.ID, "as-compare").get_attribute("aria-pressed") == "true"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".pair")) == 3
    (link,) = browser.find_elements(By.CSS_SELECTOR, "#reports a")
    assert link.text == "b #1"
    link.click()
    assert browser.current_url.endswith("b%20%231/report.html")
