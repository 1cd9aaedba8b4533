#!/usr/bin/env bash
# Trains the prior of a model on one core and measures it: scripts/prior.sh MODEL DATA RUN [HELD_OUT]. It is left as
# RUN/NAME.prior.safetensors; without HELD_OUT, a folder of audio that is not in DATA, it is measured on what the training held out.
# The same call goes on where it was stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
model=$1 data=$2 run=$3
export OMP_NUM_THREADS=1

"$python" -m ravecodec train "$data" --stage prior --init-from "$model" --out "$run" --threads 1
prior=$(ls "$run"/*.prior.safetensors)
measure=("$python" benchmarks/prior.py --model "$model" --prior "$prior" --cache "$run/prior/latents" --sounds "$run/sounds")
if [ $# -gt 3 ]; then "${measure[@]}" "$4" --whole; else "${measure[@]}" "$data"; fi
echo "sounds and a picture are in $run/sounds; to ship it: cp $prior models/pretrained/"
