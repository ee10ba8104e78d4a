"""What `decathlon --help`, and the commands whose options depend on a task, say."""

from __future__ import annotations

ALL = """usage: decathlon COMMAND [OPTIONS]

  list                    the tasks: network, data, metric, bar
  train TASK              train, measure on the test split, leave a run folder
  pretrain TASK           train the encoder that a task builds on (imdb-roberta)
  evaluate RUN            measure a run's network again, or with a task's name the weights that ship
  predict TASK INPUT…     ask a trained network
  export TASK             write a trained network as an ONNX file, checked against PyTorch
  all                     train every task in turn, then show the scoreboard
  compare A B             two tasks or runs on the same data, side by side on a page
  scoreboard              mean ± deviation of the committed results
  report RUN              write a run's HTML page again
  data                    where the data sets are looked for; fetch them
  demo                    a page in your browser on which every task answers

tasks: {tasks}

decathlon COMMAND --help tells a command's options; decathlon train TASK --help the task's whole recipe.
Every command that prints a result takes --json. With --debug an error comes with its traceback."""

TRAIN = """usage: decathlon train TASK [OPTIONS]

Trains on the training split, watches the validation split, measures the final weights once on the test split, and
leaves a run folder in runs/TASK/ with weights, summary, plots and report.html. Ctrl-C keeps a checkpoint: --resume RUN
goes on.

  decathlon train mnist-mlp                        on the official data, with the task's own recipe
  decathlon train mnist-mlp --data sample          on data drawn here: seconds, no download
  decathlon train cifar10-skip --data my-pictures  on your own folder, as README.md tells for each task
  decathlon train mnist-mlp --epochs 3 --seed 1    every field of the recipe is an option

tasks: {tasks}

decathlon train TASK --help tells all options of one task, its whole recipe among them."""

PRETRAIN = """usage: decathlon pretrain TASK [OPTIONS]

Trains the encoder that a task builds on, from texts without their labels, and leaves it in RUN/encoder: decathlon train
TASK --encoder RUN/encoder takes it.

tasks: {tasks}

decathlon pretrain TASK --help tells all options."""
