"""The demo in a real browser: every tab works, at desktop and phone width, without requests to other hosts.

`DECATHLON_PICTURES=docs/pictures` makes the screenshots of README and docs anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from demo_server import PATIENCE, ROOT, Demo
from inputs import photo
from PIL import Image
from playwright.sync_api import Browser, Page, expect

TABS = ("Digits", "Objects", "Pets", "Boxes", "Reviews")
REVIEW = "The plot was dull, the acting terrible and the ending a waste of time."


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def draw_seven(page: Page) -> None:
    """Draw a seven with the mouse, without lifting it."""
    canvas = page.locator(".dk-pad canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    box, before = canvas.bounding_box(), None
    while box != before:  # the layout may still be changing
        page.wait_for_timeout(300)
        box, before = canvas.bounding_box(), box
    assert box
    corners = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.43, 0.85))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=8)
    page.mouse.up()


def example(page: Page, name: str, number: int = 0) -> None:
    page.locator(f"#{name}-examples .gallery-item").nth(number).click()


def use_digits(page: Page) -> None:
    tab(page, "Digits")
    draw_seven(page)
    expect(page.locator("#digits [data-answer='7']")).to_have_count(3)
    expect(page.locator("#interpolation img")).to_be_visible()


def use_objects(page: Page) -> None:
    tab(page, "Objects")
    example(page, "objects")
    expect(page.locator("#objects .dk-card")).to_have_count(2)


def use_pets(page: Page) -> None:
    tab(page, "Pets")
    example(page, "pets")
    expect(page.locator("#pets .dk-wipe")).to_be_visible()


def use_boxes(page: Page) -> None:
    tab(page, "Boxes")
    example(page, "boxes", 1)
    expect(page.locator("#boxes .dk-scene")).to_have_count(2)


def use_reviews(page: Page) -> None:
    tab(page, "Reviews")
    page.locator("#review textarea").press_sequentially(REVIEW, delay=5)
    expect(page.locator("#reviews .dk-text").first).to_have_text(REVIEW)


USES: dict[str, Callable[[Page], None]] = {
    "Digits": use_digits,
    "Objects": use_objects,
    "Pets": use_pets,
    "Boxes": use_boxes,
    "Reviews": use_reviews,
}


def test_a_digit_is_classified_while_it_is_drawn(page: Page) -> None:
    use_digits(page)
    expect(page.locator("#digits figure img")).to_have_count(3)
    assert "accuracy" in page.locator("#digits").inner_text()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#digits .dk-hint")).to_be_visible()
    expect(page.locator("#interpolation .dk-hint")).to_be_visible()


@pytest.mark.parametrize("width", [360, 760, 1100, 1600])
def test_the_pad_does_not_move_when_predictions_arrive(page: Page, width: int) -> None:
    """Predictions arrive during a stroke, which a moving pad would distort."""
    page.set_viewport_size({"width": width, "height": 900})
    canvas = page.locator(".dk-pad canvas")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    before = canvas.bounding_box()
    page.locator("[data-digit='3']").click()
    expect(page.locator("#digits figure img")).to_have_count(3)
    page.wait_for_timeout(500)
    assert canvas.bounding_box() == before


def test_an_example_digit_is_classified(page: Page) -> None:
    page.locator("[data-digit='3']").click()
    expect(page.locator("#digits [data-task='mnist-cnn']")).to_have_attribute("data-answer", "3")


def test_two_digits_are_interpolated(page: Page) -> None:
    for element_id, digit in (("interpolation-from", "4"), ("interpolation-to", "9")):
        field = page.locator(f"#{element_id} input")
        field.click()
        page.locator(f"#{element_id}").get_by_role("option", name=digit, exact=True).click()
        expect(field).to_have_value(digit)  # typing and Enter at once would be undone when the list opens
    expect(page.locator("#interpolation figcaption")).to_contain_text("from 4 to 9")


def test_an_image_is_uploaded_and_classified(page: Page, tmp_path: Path) -> None:
    tab(page, "Objects")
    page.locator("#objects-image input[type=file]").set_input_files(photo(tmp_path))
    expect(page.locator("#objects .dk-card")).to_have_count(2)
    heat = page.locator("#objects img.dk-heat")
    expect(heat).to_be_visible()
    assert heat.evaluate("image => image.complete && image.naturalWidth") > 100
    assert "cifar10" in page.locator("#objects").inner_text()


def test_a_pet_is_cut_out_with_a_slider(page: Page) -> None:
    use_pets(page)
    assert page.locator("#pets .dk-answer").inner_text() != "pet on 0.0 % of the image"
    page.locator("#pets input[type=range]").fill("90")
    assert page.locator("#pets .dk-wipe").evaluate("wipe => wipe.style.getPropertyValue('--cut')") == "90%"


def test_boxes_are_side_by_side_with_a_threshold(page: Page) -> None:
    use_boxes(page)
    expect(page.get_by_text("Two detectors, twenty classes")).to_be_visible()
    visible = []
    for threshold in ("0.05", "0.5", "0.95"):
        page.locator("#boxes input[type=range]").fill(threshold)
        visible.append(page.locator("#boxes .dk-box:visible").count())
    assert visible == sorted(visible, reverse=True)
    assert visible[0] > visible[2]
    counts = page.locator("#boxes .dk-count").all_inner_texts()
    assert sum(map(int, counts)) == visible[-1]


def test_the_labels_of_boxes_are_within_the_image(page: Page) -> None:
    use_boxes(page)
    for scene in page.locator("#boxes .dk-scene").all():
        frame = scene.bounding_box()
        assert frame
        labels = [label.bounding_box() for label in scene.locator(".dk-box:visible span").all()]
        assert labels
        for label in labels:
            assert label
            assert frame["x"] <= label["x"]
            assert label["x"] + label["width"] <= frame["x"] + frame["width"] + 1


def test_a_review_is_classified_with_attributions(page: Page) -> None:
    use_reviews(page)
    roberta = page.locator("#reviews [data-task='imdb-roberta']")
    expect(roberta).to_have_attribute("data-answer", "neg")
    assert roberta.locator("mark.dk-for").count() > 0
    example(page, "review", 3)
    expect(page.locator("#reviews .dk-text").first).to_contain_text("Beautiful pictures")


def test_html_in_a_review_is_escaped(page: Page) -> None:
    tab(page, "Reviews")
    evil = 'Good film <img src=x onerror="window.hacked=1"> <script>window.hacked=1</script>'
    page.locator("#review textarea").fill(evil)
    expect(page.locator("#reviews .dk-text").first).to_have_text(evil)
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("photo.png", b"this is text"), ("photo.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("empty.png", b"")],
)
def test_a_wrong_file_gets_one_line(page: Page, tmp_path: Path, name: str, content: bytes) -> None:
    tab(page, "Pets")
    (tmp_path / name).write_bytes(content)
    page.locator("#pets-image input[type=file]").set_input_files(tmp_path / name)
    toast = page.locator(".toast-body")
    expect(toast.first).to_contain_text("image")
    assert "Traceback" not in page.content()
    assert str(tmp_path) not in page.content()
    use_pets(page)  # the page still works


def test_an_error_is_one_line(page: Page) -> None:
    tab(page, "Reviews")
    page.locator("#review textarea").fill("12 … 的")
    expect(page.locator("#reviews")).to_be_visible()
    page.locator("#review textarea").fill("★★★")
    toast = page.locator(".toast-body").first
    expect(toast).to_contain_text("contains no word")
    title, cross, *lines = toast.inner_text().strip().splitlines()
    assert (title, cross) == ("Error", "×")
    assert len(lines) == 1


def test_no_requests_to_other_hosts(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    """Every request of a visit to all tabs goes to the demo, and the content security policy had none to block."""
    urls: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(1000 * PATIENCE)
        context.on("request", lambda request: urls.append(request.url))
        context.add_init_script(
            "window.blocked = []; addEventListener('securitypolicyviolation', e => window.blocked.push(e.blockedURI))"
        )
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(demo.url)
        for use in USES.values():
            use(page)
        tab(page, "Objects")
        page.locator("#objects-image input[type=file]").set_input_files(photo(tmp_path))
        expect(page.locator("#objects .dk-card")).to_have_count(2)
        page.wait_for_load_state("networkidle")
        blocked = page.evaluate("window.blocked")
    own = urlsplit(demo.url).netloc
    foreign = [url for url in urls if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own]
    assert len(urls) > 20
    assert foreign == []
    assert blocked == []
    assert errors == []


def test_the_page_has_no_gradio_footer(page: Page) -> None:
    text = page.locator("body").inner_text()
    for clutter in ("Use via API", "Built with Gradio", "Settings", "Share"):
        assert clutter not in text
    assert page.title() == "decathlon"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, demo: Demo, scheme: str) -> None:
    with browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True) as context:
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        page.goto(demo.url)
        page.wait_for_selector(".dk-pad canvas")
        for name, use in USES.items():
            use(page)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, f"{name} is {width} pixels wide"


def test_screenshots(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    folder = Path(ROOT, os.environ.get("DECATHLON_PICTURES") or tmp_path)
    with browser.new_context(viewport={"width": 1000, "height": 700}) as context:
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        page.goto(demo.url)
        page.wait_for_selector(".dk-pad canvas")
        for name, use in USES.items():
            use(page)
            page.mouse.move(2, 2)
            page.wait_for_timeout(1500)  # for elements that fade in
            page.screenshot(path=folder / f"demo-{name.lower()}.png", full_page=True)
    with browser.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=1) as context:
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        page.goto(demo.url)
        page.wait_for_selector(".dk-pad canvas")
        use_digits(page)
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / "demo-phone.png", full_page=True)
    for path in [*(folder / f"demo-{name.lower()}.png" for name in USES), folder / "demo-phone.png"]:
        colours = Image.open(path).convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 100, f"{path.name} is empty"
