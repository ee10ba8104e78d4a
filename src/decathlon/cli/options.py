"""The options of all commands but train, as dataclasses: flags.py makes flags from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from decathlon.data.read_options import ReadOptions


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: bool = False
    """print the result as JSON"""
    debug: bool = False
    """show the traceback of an error"""


@dataclass(frozen=True)
class List(Common):
    """List the tasks: network, data, metric and bar."""

    pretraining: bool = False
    """with --json: list the pre-training tasks, too"""


@dataclass(frozen=True)
class Evaluate(Common):
    """Evaluate a finished run, or the weights that ship, on the test split."""

    run: Positional[Annotated[str, arg(metavar="RUN")]] = ""
    """a finished run folder, latest for the newest under runs/, or a task, for the weights that ship"""
    data_dir: str | None = None
    """folder of the official data; default: as in training"""


@dataclass(frozen=True)
class Predict(Common):
    """Run a trained network on your own inputs."""

    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="INPUT…")]] = ()
    """image files; for imdb-… a text, a file with one text per line, or - for standard input"""
    run: str | None = None
    """a finished run folder, or latest for the task's newest under runs/; default: the weights that ship"""
    onnx: str | None = None
    """an ONNX file that decathlon export wrote, instead of a run"""
    save: str | None = None
    """folder for the overlays of masks and boxes; default: the current folder"""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, …"""
    batch_size: int = 32
    """inputs that go through the network at once"""
    text_column: str = "text"
    """column of a table that holds the texts, for imdb-…"""


@dataclass(frozen=True)
class Export(Common):
    """Write a trained network as an ONNX file, and check its outputs against PyTorch."""

    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="[INPUT…]")]] = ()
    """inputs to check the file on, as for predict; default: test examples of the run's data, or of the sample"""
    format: Literal["onnx"] = "onnx"
    """file format"""
    run: str | None = None
    """a finished run folder, or latest for the task's newest under runs/; default: the weights that ship"""
    out: str | None = None
    """path of the file; default: TASK.onnx in the current folder"""


@dataclass(frozen=True)
class All(Common):
    """Train every task in turn, then print the scoreboard."""

    data: str = "official"
    """official or sample"""
    data_dir: str | None = None
    """folder of the official data"""
    out: str = "runs"
    """folder for the run folders and index.html"""
    seed: int = 0
    """seed of every run"""


@dataclass(frozen=True)
class Compare(Common):
    """Compare two tasks or finished runs on the same data, on one page.

    Takes every option of decathlon train (--data, --epochs, …), too, and passes it to both trainings.
    """

    sides: Positional[Annotated[tuple[str, ...], arg(metavar="A B")]] = ()
    """each a task, which is trained, or a finished run folder; or several runs of two tasks"""
    data_dir: str | None = None
    """folder of the official data"""
    out: str | None = None
    """folder for the page and the runs, whose finished runs are reused; default: runs/compare/NAMES"""


@dataclass(frozen=True)
class Scoreboard(Common):
    """Print the mean ± standard deviation of the committed results."""

    results: str = "results"
    """folder of the summaries"""
    write: str | None = None
    """write the table into this Markdown file, between its markers"""
    check: str | None = None
    """fail if the table in this Markdown file is not up to date"""
    html: str | None = None
    """write an HTML page"""


@dataclass(frozen=True)
class Report(Common):
    """Write a run's HTML report again."""

    run: Positional[Annotated[str, arg(metavar="RUN")]] = ""
    """a finished run folder, or latest for the newest under runs/"""
    open: bool = False
    """open the report in the browser"""


@dataclass(frozen=True)
class DataOptions(Common):
    """Show where data sets are looked for, or download them."""

    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME…]")]] = ()
    """data sets; default: all"""
    data_dir: str | None = None
    """folder of the official data; default: $DECATHLON_DATA, else the cache folder"""
    download: bool = False
    """download what is missing or damaged"""


@dataclass(frozen=True)
class Inspect(ReadOptions, Common):
    """Show what would be read of your own data before any training: splits, classes, sizes, warnings, examples."""

    path: Positional[Annotated[str, arg(metavar="PATH")]] = ""
    """your own data, as for --data"""
    task: str | None = None
    """read it as this task would; default: whichever data set it looks like"""
    data_dir: str | None = None
    """folder for the cache of decoded images"""
    out: str | None = None
    """the page with the examples; default: NAME-inspect.html in the current folder"""


@dataclass(frozen=True)
class Start(Common):
    """Write a net.py to fill in, and a notebook that trains it."""

    task: Positional[Annotated[str, arg(metavar="TASK")]] = ""
    """the task whose network you want to write"""
    dir: str = "."
    """folder for net.py and TASK.ipynb"""
    overwrite: bool = False
    """replace files that are there already"""


@dataclass(frozen=True)
class Grade:
    """Check your own network in stages, up to the first thing to fix; then train it against the bar.

    Takes the data options and every field of the recipe as decathlon train TASK does.
    """

    task: str | None = None
    """the task; default: TASK in the file"""
    quick: bool = False
    """stop before the whole training"""
    seeds: int = 1
    """whole trainings with different seeds"""
    data: str = "official"
    """official, sample (made on the spot), or the path of your own data"""
    data_dir: str | None = None
    """folder of the official data; default: $DECATHLON_DATA, else the cache folder"""
    reference: str | None = None
    """run folder to compare with; default: the weights that ship, on the sample a run trained here"""
    out: str = "runs"
    """folder of all runs: attempts are kept in OUT/TASK/attempts"""


@dataclass(frozen=True)
class Attempts(Common):
    """List your attempts at a task with decathlon grade, and what changed in the file in between."""

    task: Positional[Annotated[str, arg(metavar="TASK")]] = ""
    """the task"""
    out: str = "runs"
    """folder of all runs, as for decathlon grade"""


@dataclass(frozen=True)
class Demo(Common):
    """Serve a page on which you can try every task in your browser, until Ctrl-C."""

    host: str = "127.0.0.1"
    """address to listen on; the default accepts connections from this machine only"""
    port: int = 7860
    """port to listen on; 0 for any free one"""
    no_browser: bool = False
    """do not open the browser"""
