"""The page: a tab for each kind of input, its components and their event handlers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from decathlon.demo import digits, examples, html, images, inputs, reviews
from decathlon.messages import say

FOLDER = Path(__file__).parent
MAX_QUEUED = 100  # events; further ones are refused
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 2}
SLOW: dict[str, Any] = {"concurrency_id": "slow", "concurrency_limit": 1}
LIVE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", "api_visibility": "private"}
ON_CHANGE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "minimal", "api_visibility": "private"}
HEAD = """<script>
function decathlonThreshold(slider) {
  const all = slider.closest(".dk-boxes");
  all.querySelector(".dk-slider output").value = Number(slider.value).toFixed(2);
  for (const side of all.querySelectorAll(".dk-card")) {
    let count = 0;
    for (const box of side.querySelectorAll(".dk-box")) {
      box.hidden = Number(box.dataset.score) < Number(slider.value);
      count += !box.hidden;
    }
    side.querySelector(".dk-count").value = count;
  }
}
</script>"""
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")


def get_upload_path(payload: Any) -> str | None:
    """The path of a checked upload. Gradio's own preprocessing would open and convert any file."""
    return None if payload is None else str(payload.path)


def make_theme() -> gr.themes.Base:
    """Gradio's default theme with the fonts of the visitor's machine."""
    return gr.themes.Default(primary_hue="amber", neutral_hue="slate", font=FONTS, font_mono=MONO)


def report_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a handler so that every error becomes one line on the page."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            line = " ".join(str(error).split())
        except Exception as error:
            line = f"an internal error occurred ({type(error).__name__})"
            say(f"demo: {function.__name__}: {type(error).__name__}: {' '.join(str(error).split())}")
        raise gr.Error(line, duration=8, print_exception=False, title="")

    return call


@report_errors
def update_digits(url: str | None, start: str, end: str) -> tuple[str, str]:
    """The predictions for a drawing, and the interpolation that begins or ends at it."""
    drawing = inputs.read_drawing(url)
    output = html.render_hint("digits") if drawing is None else html.render_digit_predictions(digits.predict(drawing))
    return output, update_interpolation(url, start, end)


@report_errors
def update_interpolation(url: str | None, start: str, end: str) -> str:
    """The interpolation between two digits."""
    drawing = inputs.read_drawing(url)
    if drawing is None and digits.DRAWING in (start, end):
        return html.render_hint("interpolation")
    return html.render_interpolation(start, end, digits.interpolate(start, end, drawing))


def read_upload(path: str | None) -> Any:
    """The image of a checked upload."""
    return None if path is None else inputs.read_image(Path(path).read_bytes())


@report_errors
def update_objects(path: str | None) -> str:
    """The class of an image."""
    image = read_upload(path)
    return html.render_hint("objects") if image is None else html.render_image_classes(images.classify(image))


@report_errors
def update_pets(path: str | None) -> str:
    """The mask of a pet."""
    image = read_upload(path)
    return html.render_hint("pets") if image is None else html.render_pet_mask(images.segment(image))


@report_errors
def update_boxes(path: str | None) -> str:
    """The detected objects in an image."""
    image = read_upload(path)
    return html.render_hint("boxes") if image is None else html.render_detections(image, images.detect(image))


@report_errors
def update_reviews(text: str | None) -> str:
    """The sentiment of a review."""
    review = inputs.check_review(text)
    return html.render_hint("reviews") if review is None else html.render_review_predictions(reviews.predict(review))


def build(folder: Path) -> gr.Blocks:
    """Build the page, and write its example images into `folder`."""
    samples = examples.write_images(folder)
    with gr.Blocks(title="decathlon", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>decathlon</h1><p>Ten classic deep-learning tasks to try in your browser. "
            "Inputs stay on the machine that runs this page.</p>",
            elem_classes="dk-head",
        )
        with gr.Tabs():
            with gr.Tab("Digits", id="digits"):
                build_digits()
            with gr.Tab("Objects", id="objects"):
                add_intro(
                    "Two networks, ten classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck. "
                    "They were trained on photos; the example drawings are ones that cifar10-skip classifies correctly."
                )
                build_image_tab("objects", update_objects, samples["objects"])
            with gr.Tab("Pets", id="pets"):
                add_intro(
                    "Which pixels are pet? Move the slider between the image and the cut-out. The network was trained "
                    "on photos; the example drawings are ones on which it finds the pet."
                )
                build_image_tab("pets", update_pets, samples["pets"])
            with gr.Tab("Boxes", id="boxes"):
                add_intro(
                    "Two detectors, twenty classes, among them person, cat, dog, horse, car and bus. Move the slider "
                    "to see detections with lower scores."
                )
                build_image_tab("boxes", update_boxes, samples["boxes"])
            with gr.Tab("Reviews", id="reviews"):
                build_reviews()
    return page.queue(max_size=MAX_QUEUED, default_concurrency_limit=1, api_open=False)


def make_event_checker(blocks: gr.Blocks) -> Callable[[dict[str, Any]], bool]:
    """A function that tells whether an event is for one of the page's handlers, with inputs of valid types.

    Gradio checks this, too, but logs a traceback for each invalid one.
    """
    handler_inputs = {number: function.inputs for number, function in blocks.fns.items()}

    def check(event: dict[str, Any]) -> bool:
        components, data = handler_inputs.get(event["fn_index"]), event["data"]
        return components is not None and len(components) == len(data) and all(map(accepts, components, data))

    return check


def accepts(component: Any, value: Any) -> bool:
    """Whether a component can have this value."""
    if isinstance(component, gr.Image):
        if value is None:
            return True
        try:
            return component.data_model.model_validate(value).path is not None
        except ValueError:
            return False
    if isinstance(component, gr.Dropdown):
        return value in [choice for _, choice in component.choices] if isinstance(value, str) else False
    if isinstance(component, gr.Dataset):
        return type(value) is int and 0 <= value < len(component.samples)
    return value is None or isinstance(value, str)


def add_intro(text: str) -> None:
    """Add a line of introduction."""
    gr.HTML(f'<p class="dk-intro">{text}</p>')


def build_digits() -> None:
    """Build the digits tab: the pad, the predictions of three networks, the interpolation."""
    add_intro("Three networks classify your drawing while you draw.")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            pad = gr.HTML(
                "",
                html_template=html.render_pad(),
                js_on_load=(FOLDER / "pad.js").read_text(),
                elem_classes="dk-pad",
                elem_id="pad",
            )
        with gr.Column(scale=2, min_width=300):
            output = gr.HTML(html.render_hint("digits"), elem_classes="dk-digits", elem_id="digits")
    add_intro("Interpolation between two digits in the autoencoder's latent space:")
    names = [digits.DRAWING, *map(str, range(10))]
    with gr.Row():
        start = gr.Dropdown(names, value=digits.DRAWING, label="from", elem_id="interpolation-from", min_width=140)
        end = gr.Dropdown(names, value="3", label="to", elem_id="interpolation-to", min_width=140)
    strip = gr.HTML(html.render_hint("interpolation"), elem_id="interpolation")
    pad.input(update_digits, [pad, start, end], [output, strip], **LIVE, **QUICK)
    gr.on([start.change, end.change], update_interpolation, [pad, start, end], strip, **LIVE, **QUICK)


def build_image_tab(tab: str, function: Callable[..., Any], samples: list[str]) -> None:
    """Build a tab with a field for an image, examples, and the output."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            field: Any = gr.Image(
                label="Image (PNG, JPEG or WebP)",
                sources=["upload", "clipboard"],
                height=240,
                buttons=[],
                elem_id=f"{tab}-image",
            )
            field.preprocess = get_upload_path
            add_examples(samples, field, f"{tab}-examples")
            gr.HTML(f'<p class="dk-note">{examples.CREDIT}</p>')
        with gr.Column(scale=2, min_width=300):
            output = gr.HTML(html.render_hint(tab), elem_classes=f"dk-{tab}", elem_id=tab)
    field.change(function, field, output, **ON_CHANGE, **SLOW)


def add_examples(samples: list[str], field: Any, name: str) -> None:
    """Add examples to click: paths of images, or texts. Gradio's own `Examples` bypasses the queue."""
    rows = gr.Dataset(
        components=[field], samples=[[sample] for sample in samples], type="index", label="Examples", elem_id=name
    )
    rows.click(lambda index: samples[index], rows, field, show_progress="hidden", api_visibility="private", **QUICK)


def build_reviews() -> None:
    """Build the reviews tab: a field for a review, examples, the predictions of both networks."""
    add_intro(
        "Positive or negative? Two networks classify the review as you type, and show the attribution of each word."
    )
    field = gr.Textbox(
        label="Film review, in English",
        lines=4,
        max_length=inputs.MAX_REVIEW_CHARACTERS,
        placeholder="It was not bad at all …",
        elem_id="review",
    )
    add_examples(examples.REVIEWS, field, "review-examples")
    output = gr.HTML(html.render_hint("reviews"), elem_classes="dk-reviews", elem_id="reviews")
    field.change(update_reviews, field, output, **LIVE, **QUICK)
