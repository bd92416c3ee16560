"""The report in a real browser: it opens offline, shows everything, and fits a narrow screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from report_sample import sample
from trivium.foundation.tables import GRADES
from trivium.stages.report import ReportData, render

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECTIONS = ("results", "mining", "judge", "levels", "training", "run", "configuration")
FIGURES = (
    "figure-forest",
    "figure-overlap",
    "figure-overlap-segments",
    "figure-found-by",
    "upset",
    "figure-reliability",
    "figure-confusion",
    "figure-levels",
    "figure-validation",
    "figure-losses",
    "forest",
    "validation",
    "loss-1",
    "loss-2",
    "loss-3",
    "overlap-10",
    "overlap-100",
    "overlap-500",
    "results-table",
    "segments-table",
    "agreement-table",
    "examples-table",
    "run-table",
    *(f"reliability-{grade}" for grade in GRADES),
)

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(sample()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser: Any, report: str) -> Iterator[Any]:
    pages = []

    def opened(width: int = 1280, url: str = report, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.requests, page.complaints = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(url)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()


def test_opens_alone_and_without_complaint(open_page: Any, report: str) -> None:
    page = open_page()
    assert page.title() == "Trivium on a hardware catalog"
    assert [url for url in page.requests if not url.startswith("data:")] == [report]
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_every_section_and_figure_has_a_size(open_page: Any, width: int) -> None:
    page = open_page(width)
    for name in (*SECTIONS, *FIGURES, "simulated"):
        found = page.locator(f"[id='{name}']")
        assert found.count() == 1, name
        assert found.is_visible(), name
        box = found.bounding_box()
        assert box["width"] > 40, name
        assert box["height"] > 20, name


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_the_page_never_scrolls_sideways(open_page: Any, width: int) -> None:
    page = open_page(width)
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("forest", "validation", "upset", *(f"reliability-{grade}" for grade in GRADES)):
        box = page.locator(f"[id='{name}']").bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name


def test_the_results_fit_a_desktop_without_scrolling(open_page: Any) -> None:
    table = open_page(1280).locator("#results-table")
    assert table.evaluate("table => table.offsetWidth <= table.parentElement.clientWidth")


@pytest.mark.parametrize("width", [1280, 400])
def test_contents_lead_to_the_sections_and_stay_in_sight(open_page: Any, width: int) -> None:
    page = open_page(width)
    links = page.locator("nav a")
    assert links.count() == len(SECTIONS)
    for place, name in enumerate(SECTIONS):
        links.nth(place).click()
        assert page.evaluate("location.hash") == f"#{name}"
        heading = page.locator(f"#{name}-heading").bounding_box()
        nav = page.locator("nav").bounding_box()
        assert 0 <= heading["y"] < 900, name
        assert 0 <= nav["y"] < 900, name
        if width == 400:
            assert heading["y"] >= nav["y"] + nav["height"] - 1, name


def test_text_of_figures_follows_the_colour_scheme(open_page: Any) -> None:
    script = """() => {
        const of = (element, name) => getComputedStyle(element)[name];
        const label = document.querySelector("#forest text");
        return [of(document.body, "backgroundColor"), of(label, "fill"), of(label, "fontFamily")];
    }"""
    light = open_page(color_scheme="light").evaluate(script)
    dark = open_page(color_scheme="dark").evaluate(script)
    assert light[0] == "rgb(255, 255, 255)"
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    assert light[2].startswith("system-ui")


def test_prints_on_paper_in_light_colours(open_page: Any) -> None:
    page = open_page(680, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_names_from_the_data_run_no_script(open_page: Any, tmp_path: Path) -> None:
    data = sample()
    attack = "<img src=x onerror=document.title='run'><script>document.title='run'</script>"
    path = tmp_path / "hostile.html"
    path.write_text(render(ReportData(metrics=data.metrics, title=attack)), encoding="utf-8")
    page = open_page(url=path.as_uri())
    assert page.locator("h1").inner_text() == attack
    assert page.title() == attack
