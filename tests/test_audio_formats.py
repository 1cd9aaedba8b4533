"""All of the audio or an error: every format that common programs write, whole, piped, joined, cut,
against ffmpeg.

The number of samples that ffmpeg decodes is the oracle. The programs are Debian packages (ffmpeg,
lame, sox, vorbis-tools, opus-tools, flac); where one is missing its formats are skipped, and
.ci/run installs them.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ravecodec.audio import open_input
from ravecodec.errors import InputError

RATE, SECONDS = 44_100, 3
SAMPLES = RATE * SECONDS + 1234
# An MP3 decoder may keep or drop: first and last frame, encoder's and decoder's delay.
TRIMMED = 2 * 1152 + 1105 + 529

# name -> (shell command that makes OUT from IN.wav, samples by which decoders may differ)
COMMANDS = {
    "ffmpeg.wav": ("ffmpeg -i IN OUT", 0),
    "ffmpeg-pipe.wav": ("ffmpeg -i IN -f wav - > OUT", 0),
    "ffmpeg-rf64.wav": ("ffmpeg -i IN -rf64 always OUT", 0),
    "ffmpeg-24.wav": ("ffmpeg -i IN -c:a pcm_s24le OUT", 0),
    "ffmpeg-float.wav": ("ffmpeg -i IN -c:a pcm_f32le OUT", 0),
    "ffmpeg-adpcm.wav": ("ffmpeg -i IN -c:a adpcm_ima_wav OUT", 2048),
    "ffmpeg-mulaw.wav": ("ffmpeg -i IN -c:a pcm_mulaw OUT", 0),
    "ffmpeg-mp3.wav": ("ffmpeg -i IN -c:a libmp3lame -f wav OUT", TRIMMED),
    "ffmpeg.flac": ("ffmpeg -i IN OUT", 0),
    "ffmpeg-pipe.flac": ("ffmpeg -i IN -f flac - > OUT", 0),
    "ffmpeg.oga": ("ffmpeg -i IN -c:a flac -f ogg OUT", 0),
    "ffmpeg.ogg": ("ffmpeg -i IN -c:a libvorbis OUT", 64),
    "ffmpeg-pipe.ogg": ("ffmpeg -i IN -c:a libvorbis -f ogg - > OUT", 64),
    "ffmpeg.opus": ("ffmpeg -i IN -c:a libopus OUT", 960),
    "ffmpeg.mp3": ("ffmpeg -i IN OUT", TRIMMED),
    "ffmpeg-vbr.mp3": ("ffmpeg -i IN -q:a 4 OUT", TRIMMED),
    "ffmpeg-pipe.mp3": ("ffmpeg -i IN -f mp3 - > OUT", TRIMMED),
    "ffmpeg-no-xing.mp3": ("ffmpeg -i IN -q:a 6 -write_xing 0 -id3v2_version 0 OUT", TRIMMED),
    "ffmpeg-tags.mp3": ("ffmpeg -i IN -metadata title=x -write_id3v1 1 OUT", TRIMMED),
    "ffmpeg-22.mp3": ("ffmpeg -i IN -ar 22050 -q:a 5 -write_xing 0 OUT", TRIMMED),
    "ffmpeg-8.mp3": ("ffmpeg -i IN -ar 8000 -ac 1 OUT", TRIMMED),
    "ffmpeg.mp2": ("ffmpeg -i IN -c:a mp2 OUT", TRIMMED),
    "ffmpeg.aiff": ("ffmpeg -i IN OUT", 0),
    "ffmpeg.caf": ("ffmpeg -i IN OUT", 0),
    "ffmpeg.w64": ("ffmpeg -i IN OUT", 0),
    "ffmpeg.au": ("ffmpeg -i IN OUT", 0),
    "ffmpeg-pipe.au": ("ffmpeg -i IN -f au - > OUT", 0),
    "ffmpeg.m4a": ("ffmpeg -i IN OUT", 1024),
    "ffmpeg.mka": ("ffmpeg -i IN -c:a flac OUT", 0),
    "ffmpeg.wma": ("ffmpeg -i IN OUT", 4096),
    "ffmpeg.aac": ("ffmpeg -i IN -f adts OUT", 2048),
    "lame.mp3": ("lame --quiet IN OUT", TRIMMED),
    "lame-vbr.mp3": ("lame --quiet -V 4 IN OUT", TRIMMED),
    "lame-no-info.mp3": ("lame --quiet -t -V 6 IN OUT", TRIMMED),
    "lame-pipe.mp3": ("lame --quiet --abr 100 IN - > OUT", TRIMMED),
    "lame-mono.mp3": ("lame --quiet -m m -t -V 9 IN OUT", TRIMMED),
    "sox.wav": ("sox IN OUT", 0),
    "sox-pipe.wav": ("sox IN -t wav - > OUT", 0),
    "sox.aiff": ("sox IN OUT", 0),
    "sox-pipe.aiff": ("sox IN -t aiff - > OUT", 0),
    "sox.aifc": ("sox IN OUT", 0),
    "sox.caf": ("sox IN OUT", 0),
    "sox.w64": ("sox IN OUT", 0),
    "sox-pipe.w64": ("sox IN -t w64 - > OUT", 0),
    "sox.au": ("sox IN OUT", 0),
    "sox-pipe.au": ("sox IN -t au - > OUT", 0),
    "sox.flac": ("sox IN OUT", 0),
    "sox.ogg": ("sox IN OUT", 64),
    "oggenc.ogg": ("oggenc -Q IN -o OUT", 64),
    "oggenc-pipe.ogg": ("oggenc -Q - < IN > OUT", 64),
    "opusenc.opus": ("opusenc --quiet IN OUT", 960),
    "flac.flac": ("flac -s IN -o OUT", 0),
    "flac-pipe.flac": ("flac -s - < IN > OUT", 0),
    "flac.oga": ("flac -s --ogg IN -o OUT", 0),
}
JOINABLE = [name for name in COMMANDS if name.endswith((".mp3", ".ogg", ".oga", ".opus", ".flac"))]
BY_AV = [name for name in COMMANDS if name.endswith((".m4a", ".mka", ".wma", ".aac"))]
# Of no known length.
ENDLESS = (
    "pipe.wav",
    "pipe.aiff",
    "pipe.w64",
    "pipe.au",
    "pipe.flac",
    ".wma",
    ".aac",
    ".mka",
)


def run(command: str, folder: Path) -> None:
    quiet = command.replace("ffmpeg ", "ffmpeg -nostdin -v error -y ")
    done = subprocess.run(["sh", "-c", quiet], cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def counted_by_ffmpeg(path: Path) -> int:
    """Samples per channel."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-f", "s16le", "-ac", "1", "-"]
    return len(subprocess.run(command, capture_output=True, timeout=60).stdout) // 2


def counted(path: Path, *, ignore_length: bool = False) -> int:
    with open_input(path, ignore_length=ignore_length) as source:
        return sum(block.shape[1] for block in source.blocks(65_536))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a name in COMMANDS; skips where the program is missing."""
    folder = tmp_path_factory.mktemp("formats")
    time = np.arange(SAMPLES) / RATE
    tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time) + 0.01 * np.random.default_rng(
        0
    ).standard_normal(SAMPLES)
    soundfile.write(folder / "in.wav", np.stack([tone, 0.5 * tone], 1), RATE)

    def make(name: str) -> Path:
        command = COMMANDS[name][0]
        for program in (command.split()[0], "ffmpeg"):
            if shutil.which(program) is None:
                pytest.skip(f"no {program}")
        if name in BY_AV:
            pytest.importorskip("av")
        if not (folder / name).exists():
            run(command.replace("IN", "in.wav").replace("OUT", name), folder)
        return folder / name

    return make


def test_all_of_it(made: Callable[[str], Path], subtests: pytest.Subtests) -> None:
    for name in COMMANDS:
        with subtests.test(name=name):
            path = made(name)
            expected, tolerance = counted_by_ffmpeg(path), COMMANDS[name][1]
            with open_input(path) as source:
                assert expected > 0.9 * SAMPLES * source.sample_rate / RATE
            assert abs(counted(path) - expected) <= tolerance
            assert abs(counted(path, ignore_length=True) - expected) <= tolerance


def test_joined_files_give_all_parts(
    made: Callable[[str], Path], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name in JOINABLE:
        with subtests.test(name=name):
            path, joined = made(name), tmp_path / name
            joined.write_bytes(3 * path.read_bytes())
            assert abs(counted(joined) - 3 * counted(path)) <= 3 * COMMANDS[name][1]


def test_a_cut_file_is_an_error_or_read_as_far_as_it_goes(
    made: Callable[[str], Path], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name in COMMANDS:
        with subtests.test(name=name):
            path, cut = made(name), tmp_path / name
            data = path.read_bytes()
            whole = counted(path)
            for share in (0.3, 0.97):
                cut.write_bytes(data[: int(share * len(data)) | 1])
                if name.endswith(ENDLESS):
                    try:
                        assert counted(cut) <= whole
                    except InputError:
                        continue
                    continue
                with pytest.raises(
                    InputError, match=f"{name}: .*(truncated|damaged|ends within|cannot be read)"
                ):
                    counted(cut)
                if name.endswith((".m4a", ".flac", ".oga", ".opus")):
                    # an index at the end, a frame that is torn, or no length without the last page
                    continue
                there = counted(cut, ignore_length=True)
                least = (
                    0.3 * whole * (share > 0.5)
                    if name.endswith(("ogg", "-8.mp3"))
                    else 0.9 * share * whole - 4096
                )
                assert least <= there < whole + COMMANDS[name][1], (share, there)
