"""The help of `decathlon` and of `decathlon train`, whose options depend on the task."""

from __future__ import annotations

ALL = """usage: decathlon COMMAND [OPTIONS]

  list                    the tasks: network, data, metric, bar
  train TASK              train, evaluate on the test split, write a run folder
  evaluate RUN            evaluate a finished run again, or with a task's name the weights that ship
  predict TASK INPUT…     run a trained network on your own images or texts
  export TASK             write a trained network as an ONNX file, checked against PyTorch
  all                     train every task in turn, then print the scoreboard
  compare A B             compare two tasks or runs on the same data, on one page
  scoreboard              mean ± standard deviation of the committed results
  report RUN              write a run's HTML report again
  data                    show where data sets are looked for; download them
  inspect PATH            show what would be read of your own data: splits, classes, warnings, examples
  start TASK              write a net.py to fill in, and a notebook
  grade net.py            check your own network in stages, then train it against the bar
  attempts TASK           your attempts with grade, and what changed in between
  demo                    try every task in your browser

tasks: {tasks}

decathlon COMMAND --help lists a command's options, decathlon train TASK --help all hyperparameters of the task.
Every command that prints a result takes --json. --debug prints the traceback of an error."""

TRAIN = """usage: decathlon train TASK [OPTIONS]

Trains on the training split, evaluates on the validation split after every epoch and once, at the end, on the test
split, and writes a run folder runs/TASK/… with weights, summary, plots and report.html. Ctrl-C keeps a checkpoint;
--resume RUN continues from it.

  decathlon train mnist-mlp                        on the official data, with the task's own recipe
  decathlon train cifar10-cnn --recipe best        with the recipe for the highest accuracy, which takes longer
  decathlon train mnist-mlp --data sample          on data generated here: seconds, no download
  decathlon train cifar10-skip --data my-images    on your own folder; docs/own-data.md gives its layout for each task
  decathlon train mnist-mlp --epochs 3 --seed 1    every field of the recipe is an option

tasks: {tasks}
pre-training: {pretraining} (an encoder for imdb-roberta, in RUN/encoder)

decathlon train TASK --help lists all options of one task."""
