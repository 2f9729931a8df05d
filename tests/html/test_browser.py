"""Does the page work in a real browser? Chromium without a window, at two widths, both themes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from results import HOSTILE, fleet, result
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from bnfold.html import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
SIZES = {"desktop": 1280, "phone": 360}
OPTIONS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-dev-shm-usage --disable-background-networking --disable-component-update
    --disable-sync --force-prefers-reduced-motion"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver on the path (Debian: chromium, chromium-driver)",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def fleet_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("fleets")
    made = {count: folder / f"{count}.html" for count in (60, 2000)}
    for count, path in made.items():
        write(fleet(count), path)
    return made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {count: folder / f"{count}.html" for count in (40, 5000)}
    for count, path in made.items():
        write(result(count), path)
    return made


def look(browser: Any, path: Path, size: str = "desktop", theme: str = "light") -> None:
    metrics = {"width": SIZES[size], "height": 800, "deviceScaleFactor": 1}
    metrics["mobile"] = size == "phone"
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": theme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get("about:blank")
    browser.get(path.as_uri())
    script = "return document.getElementById('count')?.textContent"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(script))


def shown(browser: Any) -> list[str]:
    """The names of the rows that can be seen, in their order."""
    script = """return Array.from(document.querySelectorAll('#table > tbody > tr:not(.detail)'))
        .filter(row => !row.hidden).map(row => row.cells[1].textContent)"""
    return list(browser.execute_script(script))


def is_narrow(browser: Any) -> bool:
    script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    return bool(browser.execute_script(script))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wrong(browser: Any, pages: dict[int, Path], size: str, theme: str) -> None:
    """No message in the console, nothing wider than the window, folded or unfolded, and no name
    was run as a script."""
    look(browser, pages[40], size, theme)
    assert is_narrow(browser)
    for button in browser.find_elements(By.CSS_SELECTOR, ".open")[:12]:
        browser.execute_script("arguments[0].click()", button)
    for summary in browser.find_elements(By.CSS_SELECTOR, "summary"):
        browser.execute_script("arguments[0].click()", summary)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".detail")) == 12
    assert is_narrow(browser)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.broken") is None


def test_sorting(browser: Any, pages: dict[int, Path]) -> None:
    """A click on a header sorts by it, a second one the other way; readers are told."""
    look(browser, pages[40])
    header = browser.find_element(By.CSS_SELECTOR, "#table thead th:nth-child(2)")
    button = header.find_element(By.TAG_NAME, "button")
    first = shown(browser)
    button.click()
    ascending = shown(browser)
    assert header.get_attribute("aria-sort") == "ascending"
    button.click()
    assert header.get_attribute("aria-sort") == "descending"
    assert shown(browser) == ascending[::-1] != first
    blocks = [name for name in ascending if name.startswith("/block")]
    assert blocks.index("/block1/norm9/Output_0") < blocks.index("/block1/norm10/Output_0")
    browser.find_element(By.CSS_SELECTOR, "#table thead th:nth-child(1) button").click()
    assert shown(browser) == first


def test_filtering(browser: Any, pages: dict[int, Path]) -> None:
    """Words, outcome and operator narrow the table down together; the count says how far."""
    look(browser, pages[40])
    search = browser.find_element(By.ID, "search")
    search.send_keys("NORM2")
    assert all("norm2" in name for name in shown(browser))
    count = browser.find_element(By.ID, "count")
    assert count.text == f"{len(shown(browser))} of 40 sites"
    outcome = browser.find_element(By.ID, "outcome")
    outcome.send_keys("kept")
    kept = shown(browser)
    assert 0 < len(kept) < 10
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys("no such name")
    assert shown(browser) == []
    assert count.text == "0 of 40 sites"


def test_unfolding_by_keyboard(browser: Any, pages: dict[int, Path]) -> None:
    """A row opens on the Enter key with its reason and its graph, and closes again."""
    look(browser, pages[40])
    button = browser.find_elements(By.CSS_SELECTOR, ".open")[2]
    assert button.text.replace("▸", "").strip() == HOSTILE[2]
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    text = browser.find_element(By.CSS_SELECTOR, ".detail").text
    assert "BNF202 shared-value" in text
    assert "BatchNormalization (this site)" in text
    assert HOSTILE[2] in text
    button.send_keys(Keys.ENTER)
    assert browser.find_elements(By.CSS_SELECTOR, ".detail") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(browser: Any, pages: dict[int, Path], theme: str) -> None:
    """Text stands out from what is behind it by 4.5 to 1, graphics by 3 to 1 (WCAG 2 AA)."""
    look(browser, pages[40], theme=theme)
    script = """const style = getComputedStyle(document.documentElement);
        return arguments[0].map(name => style.getPropertyValue('--' + name).trim())"""
    names = ["page", "raised", "ink", "muted", "link", "good", "bad"]
    names += ["original", "folded", "control"]
    colors = dict(zip(names, browser.execute_script(script, names), strict=True))
    for name in names[2:]:
        least = 4.5 if name in {"ink", "muted", "link", "good", "bad"} else 3.0
        for behind in ("page", "raised"):
            assert contrast(colors[name], colors[behind]) >= least, (name, behind)


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_many_sites(browser: Any, pages: dict[int, Path], size: str) -> None:
    """With 5,000 sites the page still opens, filters and sorts while somebody waits for it."""
    look(browser, pages[5000], size)
    assert len(shown(browser)) == 500
    assert browser.find_element(By.ID, "count").text == "5000 sites, the first 500 shown"
    start = time.perf_counter()
    browser.find_element(By.ID, "search").send_keys("norm4999")
    assert shown(browser) == ["/block555/norm4999/Output_0"]
    script = "document.querySelector('#table thead th:nth-child(2) button').click()"
    browser.execute_script(script)
    assert time.perf_counter() - start < 10  # about one second on an idle machine
    assert is_narrow(browser)
    assert browser.get_log("browser") == []


def test_all_is_printed(browser: Any, pages: dict[int, Path]) -> None:
    """Paper has no buttons: while printing, every row is there, and none of the controls."""
    look(browser, pages[5000])
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(shown(browser)) == 5000
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(shown(browser)) == 500
    look(browser, pages[40])
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert len(pdf["data"]) > 10_000


# -- the page of a fleet ------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_fleet(browser: Any, fleet_pages: dict[int, Path], size: str, theme: str) -> None:
    """Nothing is wider than the window, no name was run, and the first model is a link."""
    look(browser, fleet_pages[60], size, theme)
    for summary in browser.find_elements(By.CSS_SELECTOR, "summary"):
        browser.execute_script("arguments[0].click()", summary)
    assert is_narrow(browser)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.broken") is None
    link = browser.find_element(By.CSS_SELECTOR, "#table a")
    assert link.text == HOSTILE[0]
    assert link.get_attribute("href").endswith("/reports/first.html")


def test_models_are_sorted_by_numbers(browser: Any, fleet_pages: dict[int, Path]) -> None:
    """Errors and speedups as numbers, not as text; what is not known comes last both ways."""
    look(browser, fleet_pages[60])
    for column, unit in ((5, ""), (6, "×")):
        button = f"document.querySelector('#table thead th:nth-child({column}) button').click()"
        script = f"""return Array.from(document.querySelectorAll('#table > tbody > tr'))
            .map(row => row.cells[{column - 1}].textContent)"""
        for sign in (1, -1):
            browser.execute_script(button)
            cells = browser.execute_script(script)
            known = [float(cell.removeprefix(unit)) for cell in cells if cell]
            assert known == sorted(known, key=lambda value: sign * value)
            assert all(cells[: len(known)])
            assert not any(cells[len(known) :])


def test_many_models(browser: Any, fleet_pages: dict[int, Path]) -> None:
    """With 2,000 models the table still filters and sorts while somebody waits for it."""
    look(browser, fleet_pages[2000])
    assert browser.find_element(By.ID, "count").text == "2000 models, the first 500 shown"
    start = time.perf_counter()
    browser.find_element(By.ID, "outcome").send_keys("not equivalent")
    assert len(shown(browser)) == 40
    browser.find_element(By.ID, "search").send_keys("net1953")
    assert shown(browser) == ["team0/net1953/1/model.onnx"]
    assert time.perf_counter() - start < 10  # about one second on an idle machine
    assert is_narrow(browser)
