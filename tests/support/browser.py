"""A real browser to look at pages with."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # most tests need no browser
    from selenium import webdriver


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    from support.pages import FLAGS

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        text = "no Chromium found, the page is NOT tested: apt-get install chromium chromium-driver"
        if os.environ.get("STEER_NEEDS_BROWSER"):
            pytest.fail(text)
        pytest.skip(text)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tempfile.mkdtemp(prefix="steer-chromium-")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    session.set_script_timeout(60)
    yield session
    session.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def wait(browser: webdriver.Chrome) -> Callable[[str], Any]:
    """Wait for a JavaScript expression to be true; return its value."""

    def until(expression: str) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            value = browser.execute_script(f"return {expression}")
            if value:
                return value
            time.sleep(0.02)
        pytest.fail(f"never became true: {expression}\n{browser.get_log('browser')}")

    return until
