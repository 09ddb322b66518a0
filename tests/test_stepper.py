"""The page of tg.draw in a real browser: it is clicked through, and what it shows is what the tape did."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_ja as tg

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recurrence of three steps as a page, and its tensors."""
    tg.manual_seed(0)
    tensors = {"W": tg.randn(2, 2, requires_grad=True), "<b>v</b>": tg.randn(2, requires_grad=True)}
    z = tg.ones(2)
    for _ in range(3):
        z = tg.sigmoid(tensors["W"] @ z)
    loss = (tensors["<b>v</b>"] * z).sum()
    path = tg.draw(loss, tensors).save(tmp_path_factory.mktemp("page") / "tape.html")
    loss.backward()
    return path, tensors


@pytest.fixture
def opened(browser: Any, page: tuple[Path, dict[str, Any]]) -> Any:
    """The page at its first step, in English."""
    browser.get_log("performance")
    browser.get(page[0].as_uri())
    return browser


def text(browser: Any, selector: str) -> str:
    return browser.find_element("css selector", selector).text


def click(browser: Any, name: str) -> None:
    browser.find_element("id", name).click()


def press(browser: Any, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(key).perform()


def at(browser: Any) -> int:
    return int(text(browser, "#count").split("/")[0])


def wait(browser: Any, condition: Callable[[], bool]) -> None:
    """Until it holds; selenium's TimeoutException where the page hangs."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, timeout=120, poll_frequency=0.05).until(lambda _: condition())


def test_next_walks_through_forward_and_backward_in_the_order_of_the_tape(opened: Any) -> None:
    seen = []
    for _ in range(16):
        click(opened, "next")
        seen.append((text(opened, "#panel .phase"), text(opened, "#panel h2")))
    operators = ["matmul", "sigmoid"] * 3 + ["mul", "sum"]
    assert seen == [("Forward", name) for name in operators] + [("Backward", name) for name in reversed(operators)]
    assert text(opened, "#count") == "16 / 17"


def test_a_forward_step_shows_values_and_what_the_tape_keeps(opened: Any) -> None:
    for _ in range(2):
        click(opened, "next")
    shown = text(opened, "#panel")
    assert "sigmoid" in shown and "(2,) float32" in shown
    assert "The tape keeps" in shown and re.search(r"y\s*\(2,\) float32", shown)
    click(opened, "previous")
    assert "W" in text(opened, "#panel") and "[1, 1]" in text(opened, "#panel")


def test_a_backward_step_shows_the_rule_and_the_gradients(opened: Any, page: tuple[Path, dict[str, Any]]) -> None:
    z = page[1]["<b>v</b>"].grad.array  # ∂loss/∂v = z_3
    v = page[1]["<b>v</b>"].detach().numpy()
    for _ in range(11):
        click(opened, "next")
    shown = text(opened, "#panel")
    assert (text(opened, "#panel .phase"), text(opened, "#panel h2")) == ("Backward", "sigmoid")
    assert text(opened, "#panel pre") == "lambda g, y: g * (y - y * y)"
    assert f"‖g‖ {np.linalg.norm(v):.3g}" in shown and f"‖g‖ {np.linalg.norm(v * (z - z * z)):.3g}" in shown
    assert "to: matmul" in shown


def test_the_last_step_shows_the_gradients_of_backward(opened: Any, page: tuple[Path, dict[str, Any]]) -> None:
    click(opened, "last")
    shown = text(opened, "#panel")
    assert "Gradients of the parameters" in shown
    for name, tensor in page[1].items():
        assert name in shown and f"‖g‖ {np.linalg.norm(tensor.grad.array):.3g}" in shown
    assert opened.find_elements("css selector", "#panel b b, svg b") == []  # a name is text, not markup


def test_the_picture_follows(opened: Any) -> None:
    def count(kind: str) -> int:
        return len(opened.find_elements("css selector", f".node.{kind}"))

    assert (count("ahead"), count("now"), count("passed")) == (0, 0, 0)
    click(opened, "next")
    assert (count("ahead"), count("now"), count("passed")) == (7, 1, 0)
    for _ in range(9):
        click(opened, "next")
    assert (count("ahead"), count("now"), count("passed")) == (0, 1, 2)
    assert opened.find_element("css selector", ".node.now .title").text == "mul"


def test_keys_do_what_buttons_do(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    press(opened, Keys.ARROW_RIGHT)
    press(opened, Keys.ARROW_RIGHT)
    assert at(opened) == 2
    press(opened, Keys.ARROW_LEFT)
    assert at(opened) == 1
    press(opened, Keys.END)
    assert at(opened) == 17
    press(opened, Keys.ARROW_RIGHT)  # there is nothing behind the end
    assert at(opened) == 17
    press(opened, Keys.HOME)
    press(opened, Keys.ARROW_LEFT)
    assert at(opened) == 0
    width = opened.find_element("css selector", "svg").size["width"]
    press(opened, "+")
    assert opened.find_element("css selector", "svg").size["width"] > width
    press(opened, "-")
    assert opened.find_element("css selector", "svg").size["width"] == pytest.approx(width, abs=1)


def test_the_language_can_be_switched_at_any_step(opened: Any) -> None:
    click(opened, "last")
    click(opened, "language")
    assert text(opened, "h1") == "テープを 1 ステップずつ" and "パラメータの勾配" in text(opened, "#panel")
    assert at(opened) == 17 and opened.execute_script("return document.documentElement.lang") == "ja"
    assert opened.find_element("id", "next").get_attribute("aria-label") == "進む (→)"
    press(opened, "l")
    assert "Gradients of the parameters" in text(opened, "#panel")


def test_play_goes_on_by_itself_and_stops_at_the_end(opened: Any) -> None:
    click(opened, "play")
    wait(opened, lambda: at(opened) >= 2)
    click(opened, "play")
    stopped = at(opened)
    time.sleep(1.2)
    assert at(opened) == stopped
    opened.execute_script("show(16)")
    press(opened, " ")
    wait(opened, lambda: at(opened) == 17)
    wait(opened, lambda: opened.find_element("id", "play").get_attribute("aria-pressed") == "false")


def test_a_click_on_an_operator_goes_to_its_step(opened: Any) -> None:
    opened.find_element("css selector", '.node[data-item="5"] .title').click()
    assert at(opened) == 6 and text(opened, "#panel h2") == "sigmoid"
    click(opened, "last")
    opened.find_element("css selector", '.node[data-item="5"] .title').click()
    assert (text(opened, "#panel .phase"), at(opened)) == ("Backward", 11)


def test_the_slider_moves_through_the_steps(opened: Any) -> None:
    script = "const w = document.getElementById('where'); w.value = 9; w.dispatchEvent(new Event('input'));"
    opened.execute_script(script)
    assert at(opened) == 9 and text(opened, "#panel .phase") == "Backward"


def test_nothing_is_loaded_from_elsewhere_and_nothing_fails(opened: Any) -> None:
    for name in ("next", "last", "language", "larger", "first", "play", "play"):
        click(opened, name)
    assert [entry for entry in opened.get_log("browser") if entry["level"] != "INFO"] == []
    requests = [
        re.search(r'"url":"([^"]*)"', entry["message"])[1]  # type: ignore[index]
        for entry in opened.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert [url for url in requests if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in requests if url.startswith("file://")]) == 1


def test_a_narrow_window_shows_picture_and_panel_above_each_other(opened: Any) -> None:
    opened.set_window_size(500, 900)
    try:
        picture, panel = (opened.find_element("id", name).rect for name in ("drawing", "panel"))
        assert picture["y"] + picture["height"] <= panel["y"] + 1 and panel["height"] > 100 and picture["height"] > 100
        assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        opened.set_window_size(1200, 900)
