"""The page: a tab for each kind of input, its components, and what happens when they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from decathlon.data import say
from decathlon.demo import digits, examples, inputs, photos, reviews, show

HERE = Path(__file__).parent
QUEUED = 100  # events that wait; further ones are told so
QUICK: dict[str, Any] = {"concurrency_id": "quick", "concurrency_limit": 2}
SLOW: dict[str, Any] = {"concurrency_id": "slow", "concurrency_limit": 1}
LIVE: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", "api_visibility": "private"}
CALM: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "minimal", "api_visibility": "private"}
HEAD = """<script>
function decathlonThreshold(slider) {
  const all = slider.closest(".dk-boxes");
  all.querySelector(".dk-slider output").value = Number(slider.value).toFixed(2);
  for (const side of all.querySelectorAll(".dk-card")) {
    let shown = 0;
    for (const box of side.querySelectorAll(".dk-box")) {
      box.hidden = Number(box.dataset.score) < Number(slider.value);
      shown += !box.hidden;
    }
    side.querySelector(".dk-count").value = shown;
  }
}
</script>"""
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")


def path_of(payload: Any) -> str | None:
    """The path of a checked upload; Gradio's own preparation would open and convert whatever lies there."""
    return None if payload is None else str(payload.path)


def theme() -> gr.themes.Base:
    """Gradio's plain look with the fonts that the visitor's machine has."""
    return gr.themes.Default(primary_hue="amber", neutral_hue="slate", font=FONTS, font_mono=MONO)


def safely(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a visitor did wrong, and whatever else goes wrong, becomes one line on the page."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            line = " ".join(str(error).split())
        except Exception as error:
            line = f"this did not work ({type(error).__name__}); the server goes on"
            say(f"demo: {function.__name__}: {type(error).__name__}: {' '.join(str(error).split())}")
        raise gr.Error(line, duration=8, print_exception=False, title="")

    return call


@safely
def digits_tab(url: str | None, start: str, end: str) -> tuple[str, str]:
    """What the networks say of a drawing, and the walk that begins or ends at it."""
    drawn = inputs.drawing(url)
    answer = show.empty("digits") if drawn is None else show.digits_of(digits.answers(drawn))
    return answer, walk_tab(url, start, end)


@safely
def walk_tab(url: str | None, start: str, end: str) -> str:
    """The walk between two digits."""
    drawn = inputs.drawing(url)
    if drawn is None and digits.MINE in (start, end):
        return show.empty("walk")
    return show.walk(start, end, digits.walk(start, end, drawn))


def photo(path: str | None) -> Any:
    """The picture of a checked upload."""
    return None if path is None else inputs.picture(Path(path).read_bytes())


@safely
def things_tab(path: str | None) -> str:
    """What a photo shows."""
    given = photo(path)
    return show.empty("things") if given is None else show.things(photos.things(given))


@safely
def pets_tab(path: str | None) -> str:
    """Where the pet is."""
    given = photo(path)
    return show.empty("pets") if given is None else show.pet(photos.pet(given))


@safely
def boxes_tab(path: str | None) -> str:
    """Which things are where."""
    given = photo(path)
    return show.empty("boxes") if given is None else show.boxes(given, photos.found(given))


@safely
def reviews_tab(text: str | None) -> str:
    """What a review thinks of its film."""
    given = inputs.review(text)
    return show.empty("reviews") if given is None else show.review(reviews.answers(given))


def build(folder: Path) -> gr.Blocks:
    """The page. Its examples are written into `folder`, from which they can be read back."""
    samples = examples.pictures(folder)
    with gr.Blocks(title="decathlon", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>decathlon</h1><p>Ten classic deep-learning tasks, answering in your browser. "
            "Nothing leaves the machine that runs this page.</p>",
            elem_classes="dk-head",
        )
        with gr.Tabs():
            with gr.Tab("Digits", id="digits"):
                digit_part()
            with gr.Tab("Things", id="things"):
                intro(
                    "Two networks, ten classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck. "
                    "They learned from photos; the drawings are ones that cifar10-skip names right."
                )
                photo_part("things", things_tab, samples["things"])
            with gr.Tab("Pets", id="pets"):
                intro(
                    "Which pixels are pet? Move the slider between the picture and the cut-out. The network learned "
                    "from photos; the drawings are ones that it makes something of."
                )
                photo_part("pets", pets_tab, samples["pets"])
            with gr.Tab("Boxes", id="boxes"):
                intro(show.detectors())
                photo_part("boxes", boxes_tab, samples["boxes"])
            with gr.Tab("Reviews", id="reviews"):
                review_part()
    return page.queue(max_size=QUEUED, default_concurrency_limit=1, api_open=False)


def fits(blocks: gr.Blocks) -> Callable[[dict[str, Any]], bool]:
    """What tells whether an event is for one of the page's functions, with inputs of the kinds that it takes.

    Gradio finds out, too, but writes a traceback for each that is not.
    """
    inputs_of = {number: function.inputs for number, function in blocks.fns.items()}

    def check(event: dict[str, Any]) -> bool:
        taken, data = inputs_of.get(event["fn_index"]), event["data"]
        return taken is not None and len(taken) == len(data) and all(map(accepts, taken, data))

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


def intro(text: str) -> None:
    """A line above a tab."""
    gr.HTML(f'<p class="dk-intro">{text}</p>')


def digit_part() -> None:
    """The pad, the three networks' answers, the walk."""
    intro("Three networks read what you draw, while you draw it.")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            pad = gr.HTML(
                "",
                html_template=show.pad(),
                js_on_load=(HERE / "pad.js").read_text(),
                elem_classes="dk-pad",
                elem_id="pad",
            )
        with gr.Column(scale=2, min_width=300):
            answer = gr.HTML(show.empty("digits"), elem_classes="dk-digits", elem_id="digits")
    intro("A walk between two digits in the autoencoder's code space:")
    names = [digits.MINE, *map(str, range(10))]
    with gr.Row():
        start = gr.Dropdown(names, value=digits.MINE, label="from", elem_id="walk-from", min_width=140)
        end = gr.Dropdown(names, value="3", label="to", elem_id="walk-to", min_width=140)
    strip = gr.HTML(show.empty("walk"), elem_id="walk")
    pad.input(digits_tab, [pad, start, end], [answer, strip], **LIVE, **QUICK)
    gr.on([start.change, end.change], walk_tab, [pad, start, end], strip, **LIVE, **QUICK)


def photo_part(tab: str, function: Callable[..., Any], samples: list[str]) -> None:
    """A field for a photo, examples, and what is said of it."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            field: Any = gr.Image(
                label="Photo (PNG, JPEG or WebP)",
                sources=["upload", "clipboard"],
                height=240,
                buttons=[],
                elem_id=f"{tab}-photo",
            )
            field.preprocess = path_of
            example_part(samples, field, f"{tab}-examples")
            gr.HTML(f'<p class="dk-note">{examples.CREDIT}</p>')
        with gr.Column(scale=2, min_width=300):
            answer = gr.HTML(show.empty(tab), elem_classes=f"dk-{tab}", elem_id=tab)
    field.change(function, field, answer, **CALM, **SLOW)


def example_part(samples: list[str], field: Any, name: str) -> None:
    """Paths of pictures, or texts, to click. Gradio's own `Examples` goes past the queue, where nothing may."""
    rows = gr.Dataset(
        components=[field], samples=[[one] for one in samples], type="index", label="Examples", elem_id=name
    )
    rows.click(lambda number: samples[number], rows, field, show_progress="hidden", api_visibility="private", **QUICK)


def review_part() -> None:
    """A field for a review, examples, both answers."""
    intro("Positive or negative? Two networks say so as you type, and show the words that decided.")
    field = gr.Textbox(
        label="Review of a film, in English",
        lines=4,
        max_length=inputs.LETTERS,
        placeholder="It was not bad at all …",
        elem_id="review",
    )
    example_part(examples.REVIEWS, field, "review-examples")
    answer = gr.HTML(show.empty("reviews"), elem_classes="dk-reviews", elem_id="reviews")
    field.change(reviews_tab, field, answer, **LIVE, **QUICK)
