"""The options of the commands, but for those of training: flags.py makes flags from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: bool = False
    """print the result as JSON"""
    debug: bool = False
    """show the traceback of an error"""


@dataclass(frozen=True)
class List(Common):
    """The tasks: network, data, metric, and bar."""


@dataclass(frozen=True)
class Evaluate(Common):
    """Measure a run's network again."""

    run: Positional[Annotated[str, arg(metavar="RUN")]] = ""
    """a finished run folder, or a task: the weights that ship"""
    data_dir: str | None = None
    """folder of the official data; default: as in training"""


@dataclass(frozen=True)
class Predict(Common):
    """Ask a trained network."""

    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="INPUT…")]] = ()
    """what the task takes: picture files, or for imdb-… a text, a file with one a line, or - for input"""
    run: str | None = None
    """a finished run folder, or latest: the newest of the task under runs/; default: the weights that ship"""
    onnx: str | None = None
    """a file that decathlon export wrote, to be asked instead of a run"""


@dataclass(frozen=True)
class Export(Common):
    """Write a trained network as a file that runs without PyTorch, and check it against PyTorch."""

    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="[INPUT…]")]] = ()
    """what to check it on, as predict takes it; default: test examples of the run's data, or of the sample"""
    format: Literal["onnx"] = "onnx"
    """kind of the file"""
    run: str | None = None
    """a finished run folder, or latest: the newest of the task under runs/; default: the weights that ship"""
    out: str | None = None
    """the file; default: TASK.onnx in the current folder"""


@dataclass(frozen=True)
class All(Common):
    """Train every task in turn, then show the scoreboard."""

    data: str = "official"
    """official or sample"""
    data_dir: str | None = None
    """folder of the official data"""
    out: str = "runs"
    """where the run folders and index.html go"""
    seed: int = 0
    """seed of every run"""


@dataclass(frozen=True)
class Compare(Common):
    """Two tasks on the same data, side by side on one page.

    Every option of decathlon train (--data, --epochs, …) may stand here, too, and goes to both trainings.
    """

    sides: Positional[Annotated[tuple[str, ...], arg(metavar="SIDE SIDE")]] = ()
    """two of: a task, which is trained, or a finished run folder"""
    data_dir: str | None = None
    """folder of the official data"""
    out: str | None = None
    """folder for the page and the runs; default: runs/compare/NAMES. What is finished there is taken, not made again"""


@dataclass(frozen=True)
class Scoreboard(Common):
    """Mean ± deviation of the committed results."""

    results: str = "results"
    """folder of the summaries"""
    write: str | None = None
    """put the table into this Markdown file, between its markers"""
    check: str | None = None
    """fail when the table in this Markdown file is not the one the results give"""
    html: str | None = None
    """write an HTML page"""


@dataclass(frozen=True)
class Report(Common):
    """Write a run's HTML page again."""

    run: Positional[Annotated[str, arg(metavar="RUN")]] = ""
    """a finished run folder"""


@dataclass(frozen=True)
class DataOptions(Common):
    """Where the data sets are looked for; fetch them."""

    names: Positional[Annotated[tuple[str, ...], arg(metavar="[NAME…]")]] = ()
    """data sets; default: all"""
    data_dir: str | None = None
    """folder of the official data; default: $DECATHLON_DATA, else the cache folder"""
    download: bool = False
    """fetch what is missing or damaged"""


@dataclass(frozen=True)
class Demo(Common):
    """A page in your browser on which every task answers, until Ctrl-C."""

    host: str = "127.0.0.1"
    """address to listen at; the default is this machine alone"""
    port: int = 7860
    """port to listen at; 0 for any that is free"""
    no_browser: bool = False
    """do not open the browser"""
