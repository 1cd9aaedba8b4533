#!/usr/bin/env bash
# Makes the streams and sounds of examples/ from feelings.flac and the shipped models: scripts/examples.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
ravecodec="$python -m ravecodec"

$ravecodec encode -f examples/feelings.flac examples/feelings.rvc
$ravecodec decode -f examples/feelings.rvc examples/feelings-decoded.flac
$ravecodec transfer -f examples/feelings.flac examples/feelings-strings.ogg --model strings --fidelity 0.5
$ravecodec edit -f examples/feelings.rvc examples/feelings-slow.rvc --stretch 2
$python - <<'END'
import soundfile, soxr
from ravecodec import Live
audio, rate = soundfile.read("examples/feelings.flac", dtype="float32")
live = Live("strings-live", fidelity=0.5)
heard = live.process(soxr.resample(audio, rate, live.sample_rate).T)
soundfile.write("examples/feelings-live.ogg", heard.T, live.sample_rate)
END
$ravecodec generate -f examples/generated-default.rvc --seconds 20 --seed 1
$ravecodec generate -f examples/generated-strings.rvc --model strings --seconds 20 --seed 1
