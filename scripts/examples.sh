#!/usr/bin/env bash
# Makes the streams and sounds of examples/ from feelings.flac and the shipped models: scripts/examples.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ravecodec="${PYTHON:-.venv/bin/python} -m ravecodec"

$ravecodec encode -f examples/feelings.flac examples/feelings.rvc
$ravecodec decode -f examples/feelings.rvc examples/feelings-decoded.flac
$ravecodec transfer -f examples/feelings.flac examples/feelings-strings.ogg --model strings --fidelity 0.5
$ravecodec generate -f examples/generated-default.rvc --seconds 20 --seed 1
$ravecodec generate -f examples/generated-strings.rvc --model strings --seconds 20 --seed 1
