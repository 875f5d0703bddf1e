"""The pages in a real browser: what moves, what a keyboard reaches, what is asked of the network (nothing)."""

import os
import shutil

import pytest
from make_figures import confusion, make_figures, write_run
from make_logs import make_plain_log

from fusionseg.data.open import open_log
from fusionseg.replay.compare import compare
from fusionseg.replay.compare_page import write_comparison
from fusionseg.replay.compare_results import results
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MIN_CONTRAST = 4.5
"""WCAG 2.1, level AA, text of ordinary size."""

FAINT_TEXT = """
() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const light = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return over(parse(getComputedStyle(element).backgroundColor), below);
  };
  const faint = [];
  for (const element of document.querySelectorAll("main *, header *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("svg, script, style, noscript, option, :disabled")) continue;
    const back = ground(element);
    const [a, b] = [light(back), light(over(parse(getComputedStyle(element).color), back))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < %s) faint.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing; pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    # its sandbox cannot be had by root
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Open a page; at the end nothing was complained about and nothing but the file was asked for."""
    complaints, requests, pages = [], [], []

    def opened(path):
        page = browser.new_page(viewport={"width": 1000, "height": 600})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        pages.append(path.as_uri())
        return page

    yield opened
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == pages


@pytest.fixture(scope="module")
def report_file(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("browser")
    log = open_log(make_plain_log(folder / "log", frames=3, size=(96, 160), cameras=("front", "left")))
    plan = Plan(frames=log.frames, cameras=log.cameras, alone=True, min_count=50)
    (folder / "out").mkdir()
    return write_report(folder / "out", log, tiny_model, plan, replay(log, tiny_model, folder / "out", plan))


def source(page, part):
    return page.get_attribute(f"#{part}", "src")


def test_the_slider_moves_by_keyboard_and_by_dragging(visit, report_file):
    page = visit(report_file)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    assert slider.get_attribute("aria-valuetext") == "60 % image, 40 % prediction, camera + LiDAR"
    assert page.evaluate("getComputedStyle(document.getElementById('right')).clipPath") == "inset(0px 0px 0px 60%)"
    page.locator("#stack").scroll_into_view_if_needed()
    box = page.locator("#stack").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert slider.input_value() == "25"
    assert page.locator("#wipe").evaluate("wipe => wipe.style.left") == "25%"


def test_the_switch_shows_the_labels_of_each_sensor(visit, report_file):
    page = visit(report_file)
    seen = {}
    for name in ("camera + LiDAR", "camera alone", "LiDAR alone"):
        page.get_by_role("radio", name=name, exact=True).check()
        seen[name] = source(page, "right")
        assert page.inner_text("#right-tag") == f"prediction, {name}"
        assert f"prediction, {name}: " in page.inner_text("#said")
    assert len(set(seen.values())) == 3
    page.get_by_role("radio", name="prediction | ground truth").check()
    assert source(page, "left") == seen["LiDAR alone"] and source(page, "right") not in seen.values()
    assert (page.inner_text("#left-tag"), page.inner_text("#right-tag")) == ("prediction, LiDAR alone", "ground truth")


def test_frames_and_cameras_are_chosen(visit, report_file):
    page = visit(report_file)
    first = source(page, "image")
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_role("button", name="Next", exact=True).click()
    second = source(page, "image")
    page.get_by_label("Camera", exact=True).select_option("left")
    assert len({first, second, source(page, "image")}) == 3
    # a ranked frame leads to its pictures, with the keyboard too
    button = page.get_by_role("button", name="show the pictures of frame 2").first
    button.focus()
    page.keyboard.press("Enter")
    assert "Frame 2, left" in page.inner_text("#said")
    assert page.evaluate("document.activeElement.id") == "frame"
    assert page.get_by_role("button", name="Next", exact=True).is_disabled()
    assert page.evaluate("document.getElementById('image').naturalWidth") == 160


def test_the_keyboard_keeps_its_place_at_either_end_of_the_log(visit, report_file):
    page = visit(report_file)
    page.get_by_role("button", name="Next", exact=True).focus()
    for place in ("next", "previous", "previous", "next"):
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == place
    assert "Frame 0, " in page.inner_text("#said")


def test_the_class_under_the_pointer_is_written(visit, report_file):
    page = visit(report_file)
    page.get_by_role("radio", name="prediction | ground truth").check()
    page.locator("#stack").scroll_into_view_if_needed()
    page.wait_for_function("['left', 'right'].every(id => document.getElementById(id).complete)")
    names = page.locator("#data").evaluate("e => JSON.parse(e.textContent).classes.map(c => c[0])")
    box = page.locator("#stack").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.9)
    left, right = page.inner_text("#readout").split("; ")
    assert left.removeprefix("prediction, camera + LiDAR: ") in names
    assert right.removeprefix("ground truth: ") in [*names, "no label"]


def test_everything_is_reached_by_keyboard_in_reading_order(visit, report_file):
    page = visit(report_file)
    reached = []
    while "slider" not in reached and len(reached) < 40:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    # the links above the controls have neither
    assert [name for name in reached if name] == ["frame", "next", "camera", "sensors", "pair", "slider"]


def test_controls_and_pictures_have_names_and_text_has_contrast(visit, report_file):
    page = visit(report_file)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("select, input, button, a, [role=region], [role=img]")]
          .filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert "image on the left, prediction, camera + LiDAR on the right" in page.get_attribute("#image", "alt")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")
    assert levels[0] == "H1" and set(levels[1:]) == {"H2"}
    assert page.get_attribute("html", "lang") == "en"
    assert page.evaluate(FAINT_TEXT % MIN_CONTRAST) == []


def test_the_comparison_opens_and_is_readable(visit, tmp_path):
    counts = [confusion((100, 100, 0)), confusion((100, 50, 0), [(1, 0, 50)])]
    a, b = make_figures({"points/both": counts}), make_figures({"points/both": counts[::-1]})
    comparison = compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b), min_count=1)
    write_comparison(tmp_path / "page.html", comparison, results(comparison))
    page = visit(tmp_path / "page.html")
    assert page.get_by_role("heading", name="a (both, a) against b (both, b)").is_visible()
    assert page.get_by_role("row", name="car").first.is_visible()
    assert page.get_by_role("img").count() == 3
    assert page.evaluate(FAINT_TEXT % MIN_CONTRAST) == []


@pytest.mark.parametrize("width_px", [360, 1280])
def test_the_page_is_not_wider_than_the_window(visit, report_file, width_px):
    page = visit(report_file)
    page.set_viewport_size({"width": width_px, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width_px
