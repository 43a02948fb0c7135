"""The page in a real browser: runs step by step, stops, picks, comparisons, prompt files, and hostile texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from support.live_server import Live, live_server
from support.pages import EVIL, press

from steer import Sampler

FULL = 12
WATCHED = """
if (!window.seen) {
  window.seen = [];
  const step = Particles.prototype.step;
  Particles.prototype.step = function (data) { step.call(this, data); seen.push([data.step, data.pictures.length]); };
}
"""
CONTRASTS = """
const parsed = (text) => {
  const numbers = (text.match(/[-\\d.]+(e-?\\d+)?/g) || []).map(Number), unit = text.startsWith("color(") ? 255 : 1;
  return [...numbers.slice(0, 3).map((value) => value * unit), numbers.length > 3 ? numbers[3] : 1];
};
const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
const light = (color) => {
  const linear = (share) => (share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = color.map((value) => linear(value / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  if (!element) return [255, 255, 255, 1];
  const own = parsed(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, ground(element.parentElement));
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const words = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!words || element.closest("noscript, :disabled, svg, .star")) continue;
  if (!element.checkVisibility({ opacityProperty: true })) continue;
  const back = ground(element), ink = over(parsed(getComputedStyle(element).color), back);
  const [low, high] = [light(ink), light(back)].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${element.textContent.slice(0, 30)}: ${ratio}`);
}
return poor;
"""
NAMED = {"button", "textbox", "combobox", "spinbutton", "link", "image", "checkbox", "progressbar", "searchbox"}


@pytest.fixture(scope="module")
def live(shapes: Sampler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(shapes, tmp_path_factory.mktemp("page"), values={"steps": FULL}) as server:
        yield server


@pytest.fixture
def page(browser: webdriver.Chrome, live: Live, wait: Callable[[str], Any]) -> Iterator[webdriver.Chrome]:
    """The page, just opened; nothing may be told to the console."""
    browser.get(live.url)
    wait("document.documentElement.dataset.ready")
    browser.get_log("browser")
    browser.execute_script(WATCHED)
    yield browser
    browser.get("about:blank")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def fill(page: webdriver.Chrome, **values: object) -> None:
    """Set fields of the form, as typing does."""
    for name, value in values.items():
        page.execute_script(
            "const field = byId(arguments[0]); field.value = arguments[1];"
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind))",
            name,
            str(value),
        )


def run(page: webdriver.Chrome, **values: object) -> None:
    fill(page, **{"prompt": "a red circle", "method": "fk", "reward": "shapes", "particles": 2, "steps": 2, **values})
    press(page.find_element(By.ID, "run"))


def button(page: webdriver.Chrome, name: str, within: str = ".run") -> None:
    press(page.find_element(By.CSS_SELECTOR, within).find_element(By.XPATH, f".//button[normalize-space()='{name}']"))


STATUS = "document.querySelector('.run').dataset.status"
COUNT = "document.querySelectorAll('.run').length"


def test_ten_steps_arrive_in_order_and_an_image_is_picked_and_redone(
    page: webdriver.Chrome, live: Live, wait: Callable[[str], Any]
) -> None:
    run(page, steps=10, seed=5)
    wait(f"{COUNT} && {STATUS} === 'done'")
    assert page.execute_script("return seen") == [[step, 2] for step in range(11)]
    card = page.find_element(By.CSS_SELECTOR, ".run")
    assert "step 10 of 10 · 2 particles · ESS" in card.text
    assert len(card.find_elements(By.CSS_SELECTOR, ".particle img[alt$='at step 10']")) == 2
    assert len(card.find_elements(By.CSS_SELECTOR, "svg[aria-label^=Genealogy] circle")) >= 4
    wait("document.querySelector('.result img').naturalWidth === 64")
    assert len(page.find_elements(By.CSS_SELECTOR, "#history .past")) == 1

    press(page.find_element(By.CSS_SELECTOR, ".run .star"))
    page.refresh()
    wait("document.documentElement.dataset.ready")
    assert page.find_element(By.CSS_SELECTOR, "#picks .star").get_attribute("aria-pressed") == "true"
    button(page, "Redo in full", "#picks")
    wait(f"{COUNT} && {STATUS} === 'done'")
    redone, first = live.queue.jobs()[:2]
    assert [job.values["steps"] for job in (redone, first)] == [FULL, 10]
    assert redone.rows == first.rows and redone.rows[0]["seed"] == 5
    press(page.find_element(By.CSS_SELECTOR, "#picks .star"))
    assert not page.find_element(By.ID, "picks").is_displayed()


def test_a_run_is_stopped_and_run_again(page: webdriver.Chrome, live: Live, wait: Callable[[str], Any]) -> None:
    run(page, method="", particles=1, steps=200, seed=6)
    wait("seen.length")
    button(page, "Stop")
    wait(f"{STATUS} === 'stopped'")
    assert page.execute_script("return seen.at(-1)[0]") < 199
    assert not page.find_elements(By.CSS_SELECTOR, ".result")
    button(page, "Edit")
    fill(page, steps=1)
    press(page.find_element(By.ID, "run"))
    wait(f"{COUNT} === 2 && {STATUS} === 'done'")
    assert live.queue.jobs()[0].rows[0]["seed"] == 6
    button(page, "Run again")
    wait(f"{COUNT} === 3 && {STATUS} === 'done'")
    assert live.queue.jobs()[0].rows[0]["seed"] != 6


def test_two_methods_stand_side_by_side_at_one_seed(
    page: webdriver.Chrome, live: Live, wait: Callable[[str], Any]
) -> None:
    run(page, method="prune", options="prune.at=0.5", versus="best-of-n", budget=8)
    wait(f"{COUNT} === 2 && [...document.querySelectorAll('.run')].every((run) => run.dataset.status === 'done')")
    pruned, best = page.find_elements(By.CSS_SELECTOR, ".together > .run")
    assert pruned.location["y"] == best.location["y"] and pruned.location["x"] < best.location["x"]
    assert pruned.find_element(By.CSS_SELECTOR, ".particle.gone .note").text == "pruned"
    assert len(best.find_elements(By.CSS_SELECTOR, ".particle b:not(:empty)")) == 2
    assert "8 denoiser evaluations" in best.text  # two samples, two steps, guided
    jobs = live.queue.jobs()[:2]
    assert jobs[0].rows == jobs[1].rows
    assert [job.values["options"] for job in jobs] == [{"best-of-n": {"nfe": 8}}, {"prune": {"at": "0.5"}}]

    press(best.find_element(By.CSS_SELECTOR, "[aria-label='Redo particle 1 in full']"))
    wait(f"{COUNT} === 3 && {STATUS} === 'done'")
    alone = live.queue.jobs()[0]
    assert (alone.values["plugin"], alone.values["steps"]) == ([], FULL)
    assert alone.rows[0]["seed"] == (jobs[0].rows[0]["seed"] + 1) % 2**32


def test_a_prompt_file_is_rendered_and_its_texts_are_no_markup(
    page: webdriver.Chrome, live: Live, wait: Callable[[str], Any], tmp_path: Path
) -> None:
    file = tmp_path / f"{EVIL[:9]}.txt"
    file.write_text(f"a red circle\n{EVIL}\n")
    press(page.find_element(By.ID, "many"))
    page.find_element(By.ID, "file").send_keys(str(file))
    run(page, method="", reward="", particles="", steps=1, prompt="")
    wait(f"{COUNT} && {STATUS} === 'done'")
    assert page.find_element(By.CSS_SELECTOR, ".run h2").text == file.name
    assert [image.get_attribute("alt") for image in page.find_elements(By.CSS_SELECTOR, ".result img")] == [
        "a red circle", EVIL,
    ]  # fmt: skip
    folder = live.folder / live.queue.jobs()[0].id
    assert {"index.html", "run.toml", "metadata.jsonl"} <= {path.name for path in folder.iterdir()}


def test_hostile_texts_in_every_field_stay_texts(page: webdriver.Chrome, wait: Callable[[str], Any]) -> None:
    run(page, prompt=EVIL, negative=EVIL, method="", reward="", particles="", steps=1)
    wait(f"{COUNT} && {STATUS} === 'done'")
    assert page.find_element(By.CSS_SELECTOR, ".run h2").text == EVIL
    button(page, "Edit")
    assert page.find_element(By.ID, "prompt").get_property("value") == EVIL
    for field, text in (("reward", EVIL), ("size", EVIL), ("options", EVIL), ("options", f"fk.{EVIL[:4]}=1")):
        fill(page, **{field: text})
        press(page.find_element(By.ID, "run"))
        wait("!byId('mistake').hidden && !byId('run').disabled")
        assert page.find_element(By.ID, "mistake").text
        fill(page, reward="shapes", size="", options="")
    assert page.title == "steer live"
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x], body script")
    refused = page.get_log("browser")
    assert all("400 (Bad Request)" in entry["message"] for entry in refused), refused  # the browser's own words


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_its_window_is_named_and_can_be_read(
    page: webdriver.Chrome, wait: Callable[[str], Any], width: int, scheme: str
) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        run(page, seed=9)
        wait(f"{COUNT} && {STATUS} === 'done'")
        page.refresh()
        wait("document.documentElement.dataset.ready")
        press(page.find_element(By.CSS_SELECTOR, "#more > summary"))
        press(page.find_element(By.CSS_SELECTOR, "#history .past"))
        wait("document.querySelector('.result img') && document.querySelector('.result img').complete")
        page.execute_script("say('A mistake.')")
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.execute_script(CONTRASTS) == []
        nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        unnamed = [
            node
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in NAMED and not node.get("name", {}).get("value")
        ]
        assert not unnamed
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
