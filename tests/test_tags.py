"""Tags: from every format into META and back into files, cleaned, bounded and never in the way of
the audio; `ravecodec tag` edits them and nothing else.

ffmpeg writes and ffprobe reads as the other opinion, where they are installed.
"""

import base64
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from ravecodec import decode_file, encode, encode_file, inspect_file, tag_file
from ravecodec.audio import open_input, open_output
from ravecodec.bitstream import StreamReader, find_index
from ravecodec.cli import main
from ravecodec.errors import InputError, UsageError
from ravecodec.models.package import Model
from ravecodec.tagging import tags_in

pytest.importorskip("mutagen")
from mutagen import id3
from mutagen.flac import FLAC, Picture

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Any]
Tags = dict[str, list[str]]
FULL: Tags = {
    "TITLE": ["Grüße, 世界 = x"],
    "ARTIST": ["One", "Two"],
    "ALBUM": ["Al"],
    "DATE": ["2001-02-03"],
    "TRACKNUMBER": ["3"],
    "TRACKTOTAL": ["12"],
    "COMMENT": ["two\nlines"],
    "GENRE": ["Jazz"],
    "MUSICBRAINZ_TRACKID": ["8f3471b5-7e6a-48da-86a9-c1c07a0f47ae"],
}
BASE = {"title": "Té st", "artist": "Me", "album": "Al", "date": "2001", "comment": "co"}
MADE = {  # by ffmpeg: name -> options, and which of BASE it does not write
    "a.flac": ("", ""),
    "a.ogg": ("", ""),
    "a.opus": ("", ""),
    "a.oga": ("-c:a flac", ""),
    "a.mp3": ("", ""),
    "b.mp3": ("-id3v2_version 3", ""),
    "a.m4a": ("", ""),
    "a.mka": ("", ""),
    "a.wma": ("", ""),
    "a.wv": ("", ""),
    "a.wav": ("", ""),
    "a.aiff": ("-write_id3v2 1", ""),
    "b.aiff": ("", "artist album date"),
}


def call(*args: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(map(str, args)), input=stdin)


def read(path: Path, **options: Any) -> Tags:
    with open_input(path, tags=True, **options) as source:
        return source.tags


def noise(path: Path, seconds: float = 0.2, rate: int = 44_100) -> Path:
    samples = 0.1 * np.random.default_rng(0).standard_normal((int(seconds * rate), 2))
    soundfile.write(path, samples, rate)
    return path


def tagged_flac(path: Path, tags: Tags = FULL) -> Path:
    flac = FLAC(noise(path))
    assert flac.tags is not None and not list(flac.tags)  # libsndfile writes an empty block
    for name, values in tags.items():
        flac.tags.extend((name, value) for value in values)
    flac.save()
    return path


def picture(size: int = 500) -> Picture:
    cover = Picture()
    cover.data, cover.mime, cover.type = bytes(range(256)) * (size // 256 + 1), "image/png", 3
    return cover


def probed(path: Path) -> dict[str, str]:
    """What ffprobe reads; names in lower case."""
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    tags = found["format"].get("tags", {}) | found["streams"][0].get("tags", {})
    return {name.lower(): text for name, text in tags.items()}


# ---- in ------------------------------------------------------------------------------------------


def test_every_format_that_ffmpeg_tags_is_read(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")
    pytest.importorskip("av")
    noise(tmp_path / "in.wav", 1.0)
    words = [f"{name}={text}" for name, text in BASE.items()]
    words += ["track=3/12", "REPLAYGAIN_TRACK_GAIN=-3 dB"]
    for name, (options, lacks) in MADE.items():
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", "in.wav"]
        command += [part for word in words for part in ("-metadata", word)]
        subprocess.run([*command, *options.split(), name], cwd=tmp_path, check=True)
        tags = read(tmp_path / name)
        if "DESCRIPTION" in tags:  # what ffmpeg makes of a comment in Vorbis comments
            tags["COMMENT"] = tags.pop("DESCRIPTION")
        expected = {key.upper(): [text] for key, text in BASE.items() if key not in lacks}
        assert {key: tags.get(key) for key in expected} == expected, name
        assert not any(key.startswith("REPLAYGAIN") for key in tags), name
        if name in ("a.flac", "a.mp3", "a.mka", "a.wma"):
            assert tags["ORIGINAL_REPLAYGAIN_TRACK_GAIN"] == ["-3 dB"], name
        number = [part for key in ("TRACKNUMBER", "TRACKTOTAL") for part in tags.get(key, ())]
        assert "/".join(number) == "3/12" or name == "b.aiff", name


def id3_bytes(*frames: Any) -> bytes:
    tag, file = id3.ID3(), io.BytesIO()
    for frame in frames:
        tag.add(frame)
    tag.save(file)
    return file.getvalue()


def riff(path: Path, *chunks: tuple[bytes, bytes], before: bool = True) -> Path:
    """A WAV file of 100 samples with chunks before or behind the sound."""
    data = b"data" + struct.pack("<I", 200) + bytes(200)
    more = b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for name, body in chunks
    )
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 48_000, 96_000, 2, 16)
    body = b"WAVE" + fmt + (more + data if before else data + more)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def bext(version: int = 2, umid: bytes = b"", history: bytes = b"") -> bytes:
    """As EBU Tech 3285 lays it out."""
    texts = b"A description".ljust(256, b"\0") + b"Me".ljust(32, b"\0") + b"Ref".ljust(32, b"\0")
    times = b"2001-02-0304:05:06" + struct.pack("<Q", 172_800_000)
    loud = struct.pack("<5h", -2310, 700, -100, 0x7FFF, 0x7FFF)
    return (
        texts
        + times
        + struct.pack("<H", version)
        + umid.ljust(64, b"\0")
        + loud
        + bytes(180)
        + history
    )


def test_wav_has_info_bext_and_id3_before_or_behind_the_sound(tmp_path: Path) -> None:
    info = b"INFOINAM\6\0\0\0Caf\xe9\0\0IART\3\0\0\0Me\0\0IPRT\5\0\0\0 4/9\0\0IDIT\2\0\0\0x\0"
    tag = id3_bytes(id3.TIT2(3, ["Other"]), id3.TPE1(3, ["A", "B"]))
    history = b"A=PCM,F=48000\r\nB=ANALOGUE\r\n"
    for before in (True, False):
        path = riff(tmp_path / "x.wav", (b"LIST", info), before=before)
        assert read(path) == {
            "TITLE": ["Café"],
            "ARTIST": ["Me"],
            "TRACKNUMBER": ["4"],
            "TRACKTOTAL": ["9"],
            "INFO_IDIT": ["x"],
        }
        chunks = ((b"LIST", info), (b"id3 ", tag), (b"bext", bext(history=history)))
        tags = read(riff(path, *chunks, before=before))
        assert tags["TITLE"] == ["Other"] and tags["ARTIST"] == ["A", "B"]  # ID3 can say more
        assert tags["BEXT_DESCRIPTION"] == ["A description"]
        assert tags["BEXT_ORIGINATION_DATE"] + tags["BEXT_ORIGINATION_TIME"] == [
            "2001-02-03",
            "04:05:06",
        ]
        assert tags["BEXT_TIME_REFERENCE"] == ["172800000"]
        assert tags["BEXT_CODING_HISTORY"] == ["A=PCM,F=48000\nB=ANALOGUE"]
        assert tags["ORIGINAL_BEXT_LOUDNESS_VALUE"] == ["-23.10"]
        assert "ORIGINAL_BEXT_MAX_MOMENTARY_LOUDNESS" not in tags


def test_a_pipe_has_what_stands_before_the_sound_and_says_what_does_not(
    tmp_path: Path, stereo_model: Model
) -> None:
    info = b"INFOINAM\2\0\0\0x\0"
    for before in (True, False):
        data = riff(tmp_path / "x.wav", (b"LIST", info), before=before).read_bytes()
        done = call("encode", "-", tmp_path / "x.rvc", "-f", stdin=data)
        assert done.exit_code == 0, done.stderr
        assert inspect_file(tmp_path / "x.rvc").meta == ({"tags": {"TITLE": "x"}} if before else {})
        assert ("behind the sound" in done.stderr) == (not before)
    data = tagged_flac(tmp_path / "x.flac").read_bytes()  # spooled, so nothing is lost
    assert call("encode", "-", tmp_path / "x.rvc", "-f", stdin=data).exit_code == 0
    assert tags_in(inspect_file(tmp_path / "x.rvc").meta) == FULL


def test_id3_of_all_kinds(tmp_path: Path) -> None:
    frames = (
        id3.TIT2(1, ["Title"]),
        id3.TXXX(3, "replaygain_album_gain", ["-1 dB"]),
        id3.TXXX(3, "My Key", ["a", "b"]),
        id3.COMM(3, "eng", "", ["plain"]),
        id3.COMM(3, "eng", "iTunNORM", [" 000 111"]),
        id3.USLT(3, "eng", "", "la\r\nla"),
        id3.TMCL(3, [["piano", "Bill"]]),
        id3.TIPL(3, [["producer", "Teo"]]),
        id3.RVA2("track", 1, -2.5, 0.5),
        id3.POPM("a@b", 200, 3),
        id3.WOAR("http://example.org"),
        id3.UFID("http://musicbrainz.org", b"abc"),
        id3.TCON(3, ["(17)Rock"]),
        id3.PRIV("x", b"\0\1\2"),
        id3.APIC(3, "image/png", 3, "", b"123"),
    )
    path = noise(tmp_path / "x.mp3", 1.0)
    path.write_bytes(id3_bytes(*frames) + path.read_bytes())
    with open_input(path, tags=True) as source:
        assert source.tags == {
            "TITLE": ["Title"],
            "ORIGINAL_REPLAYGAIN_ALBUM_GAIN": ["-1 dB"],
            "MY KEY": ["a", "b"],
            "COMMENT": ["plain"],
            "ORIGINAL_ITUNNORM": [" 000 111"],
            "LYRICS": ["la\nla"],
            "PERFORMER": ["Bill (piano)"],
            "PRODUCER": ["Teo"],
            "ORIGINAL_RVA2:TRACK": ["-2.50 dB"],
            "RATING": ["200"],
            "WEBSITE": ["http://example.org"],
            "MUSICBRAINZ_TRACKID": ["abc"],
            "GENRE": ["Rock"],
        }
        (remark,) = source.remarks
    assert "PRIV" in remark and "--pictures" in remark
    path = noise(tmp_path / "v1.mp3", 1.0)
    texts = b"Title".ljust(30, b"\0") + b"Me".ljust(30, b"\0") + b"Al".ljust(30) + b"2001"
    path.write_bytes(path.read_bytes() + b"TAG" + texts + b"co".ljust(28, b"\0") + b"\0\5\x08")
    assert read(path) == {
        "TITLE": ["Title"],
        "ARTIST": ["Me"],
        "ALBUM": ["Al"],
        "DATE": ["2001"],
        "COMMENT": ["co"],
        "TRACKNUMBER": ["5"],
        "GENRE": ["Jazz"],
    }


# ---- bounds --------------------------------------------------------------------------------------


def test_what_is_too_much_is_left_out_with_a_remark(tmp_path: Path, stereo_model: Model) -> None:
    for tags in (
        {f"N{number}": [str(number)] for number in range(3000)},
        {"BIG": ["x" * 200_000], "TITLE": ["t"]},
        {"MANY": [f"{number} " + "\n" * 30_000 for number in range(40)], "TITLE": ["t"]},
    ):
        path = tagged_flac(tmp_path / "x.flac", tags)
        done = encode_file(path, tmp_path / "x.rvc", model=stereo_model, force=True)
        assert any("left out" in remark for remark in done.remarks)
        meta = inspect_file(tmp_path / "x.rvc").meta
        assert len(json.dumps(meta)) < 1 << 20 and ("TITLE" in meta["tags"]) == ("TITLE" in tags)


def test_a_compressed_frame_is_not_unfolded(tmp_path: Path) -> None:
    text = zlib.compress(b"\3" + b"a" * 50_000_000, 9)
    sound = noise(tmp_path / "x.mp3", 1.0).read_bytes()

    def syncsafe(size: int) -> bytes:
        return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))

    for version, flags in ((3, b"\0\x80"), (4, b"\0\x09")):
        body = struct.pack(">I", 50_000_001) + text
        size = syncsafe(len(body)) if version == 4 else struct.pack(">I", len(body))
        tag = b"TIT2" + size + flags + body
        head = b"ID3" + bytes([version, 0, 0]) + syncsafe(len(tag))
        (tmp_path / "x.mp3").write_bytes(head + tag + sound)
        with open_input(tmp_path / "x.mp3", tags=True) as source:
            assert source.tags == {}
            assert any("compressed" in remark for remark in source.remarks)
            assert sum(block.shape[1] for block in source.blocks(65_536)) > 40_000


def outcome(path: Path, **options: Any) -> tuple[int, str]:
    """Samples and "", or the error."""
    try:
        with open_input(path, **options) as source:
            return sum(block.shape[1] for block in source.blocks(65_536)), ""
    except InputError as error:
        return 0, str(error)


def test_broken_tags_change_nothing_of_the_audio(tmp_path: Path) -> None:
    """Bytes are changed at random in tagged files: what becomes of the audio is what would become
    of it if nobody looked at tags, and what is carried is clean."""
    rng = np.random.default_rng(1)
    made = [tagged_flac(tmp_path / "x.flac"), riff(tmp_path / "x.wav", (b"bext", bext()))]
    for suffix in (".mp3", ".ogg", ".aiff"):
        made.append(noise(tmp_path / f"x{suffix}"))
    tag = id3_bytes(id3.TIT2(1, ["Title"]), id3.COMM(3, "eng", "d", ["x\0y"]), id3.TRCK(0, ["1/2"]))
    made[2].write_bytes(tag + made[2].read_bytes())
    for path in made:
        whole = path.read_bytes()
        for _ in range(25):
            data = bytearray(whole)
            for place in rng.integers(4, min(len(data), 700), rng.integers(1, 9)):
                data[place] = rng.integers(256)
            broken = path.with_name(f"broken{path.suffix}")
            broken.write_bytes(data)
            assert outcome(broken, tags=True, pictures=True) == outcome(broken)
            if not outcome(broken)[1]:
                for name, texts in read(broken, pictures=True).items():
                    assert name == name.upper().strip() and name.isprintable() and "=" not in name
                    for text in texts:
                        assert text.encode() and not set(text) & set(map(chr, range(9)))


@given(st.dictionaries(st.text(max_size=9), st.lists(st.text(max_size=20), max_size=3), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_texts_of_meta_can_be_written_and_read_again(tmp_path_factory: Any, tags: Tags) -> None:
    clean = tags_in({"tags": tags})
    assert tags_in({"tags": clean}) == clean
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".wav", ".flac", ".ogg", ".aiff"):
        with open_output(folder / f"x{suffix}", 44_100, 1, tags=clean) as out:
            out.write(np.zeros((1, 5000), np.float32))
        back = read(folder / f"x{suffix}")
        if "ENCODER" not in clean:
            back.pop("ENCODER", None)  # libsndfile's own
        assert sum(map(len, back.values())) <= sum(map(len, clean.values()))
        if all(name.isascii() and name.isalpha() for name in clean):
            stripped = {
                n: [t for t in v if t.strip() == t and t.strip("\n")] for n, v in clean.items()
            }
            if stripped == clean:
                assert back == clean, suffix


def test_metadata_of_any_form_is_passed_over() -> None:
    for tags in (None, 3, "x", ["a"], {"a": {"b": 1}}, {"": "x"}, {"a": [None, [1]]}):
        assert tags_in({"tags": tags}) == {}
    assert tags_in({"tags": {"a": 1, "b": True, "c": [1.5, "x"]}}) == {
        "A": ["1"],
        "B": ["True"],
        "C": ["1.5", "x"],
    }


# ---- out -----------------------------------------------------------------------------------------


def test_there_and_back_in_every_format_without_a_change_of_samples(
    tmp_path: Path, stereo_model: Model
) -> None:
    source, stream = tagged_flac(tmp_path / "x.flac"), tmp_path / "x.rvc"
    encode_file(source, stream, model=stereo_model)
    assert tags_in(inspect_file(stream).meta) == FULL
    for suffix in (".wav", ".flac", ".ogg", ".aiff", ".caf"):
        made, plain = tmp_path / f"made{suffix}", tmp_path / f"plain{suffix}"
        done = decode_file(stream, made, model=stereo_model)
        decode_file(stream, plain, model=stereo_model, tags=False)
        assert np.array_equal(soundfile.read(made)[0], soundfile.read(plain)[0]), suffix
        if suffix == ".caf":
            assert "CAF has no place" in done.remarks[0]
            continue
        assert not done.remarks
        back = {name: texts for name, texts in read(made).items() if name != "ENCODER"}
        assert back == FULL, suffix
        assert read(plain).keys() <= {"ENCODER"}
        if shutil.which("ffprobe"):
            found = probed(made)
            assert (found["title"], found["album"]) == (FULL["TITLE"][0], "Al"), suffix
    again = encode_file(made.with_suffix(".flac"), tmp_path / "y.rvc", model=stereo_model)
    assert again.stream.meta_bytes == inspect_file(stream).stream.meta_bytes


def test_bwf_comes_back_bit_for_bit_but_for_loudness(tmp_path: Path, stereo_model: Model) -> None:
    umid, history = bytes(range(64)), b"A=PCM,F=48000\r\nB=ANALOGUE\r\n"
    path = riff(tmp_path / "x.wav", (b"bext", bext(2, umid, history)))
    encode_file(path, tmp_path / "x.rvc", model=stereo_model)
    out = tmp_path / "out.wav"
    decode_file(tmp_path / "x.rvc", out, model=stereo_model)
    quiet = bext(1, umid, history)
    quiet = quiet[:412] + bytes(10) + quiet[422:]
    assert b"bext" + struct.pack("<I", len(quiet)) + quiet in out.read_bytes()
    for change in ({"start": "10s"}, {"rate": 44_100}):
        decode_file(tmp_path / "x.rvc", out, model=stereo_model, force=True, **change)
        tags = read(out)
        assert "BEXT_TIME_REFERENCE" not in tags and tags["BEXT_ORIGINATOR"] == ["Me"]


def test_a_part_is_still_the_slice_of_the_whole_and_tagged(
    tmp_path: Path, stereo_model: Model, music: Music, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(4 * 2048)  # so that there is an INDEX, through which the part is read
    path, stream = tmp_path / "x.flac", tmp_path / "x.rvc"
    soundfile.write(path, music(4 * 48_000, rate=48_000).T, 48_000)
    encode_file(path, stream, model=stereo_model, meta={"tags": {"TITLE": "x"}})
    assert find_index(io.BytesIO(stream.read_bytes())) is not None
    for name, part in (("whole", {}), ("part", {"start": 2.5, "end": 3})):
        decode_file(stream, tmp_path / f"{name}.flac", model=stereo_model, **part)
    whole, part = (soundfile.read(tmp_path / f"{name}.flac")[0] for name in ("whole", "part"))
    assert np.array_equal(part, whole[120_000:144_000])
    assert read(tmp_path / "part.flac") == {"TITLE": ["x"]}
    data = bytearray(stream.read_bytes())
    data[data.index(b"\xc7\x9a") + 12] ^= 1  # within META
    stream.write_bytes(data)
    done = decode_file(stream, tmp_path / "s.flac", model=stereo_model, salvage=True)
    assert done.damage and read(tmp_path / "s.flac") == {}
    assert np.array_equal(soundfile.read(tmp_path / "s.flac")[0], whole)


def test_wav_into_a_pipe_has_tags(tmp_path: Path, stereo_model: Model) -> None:
    encode_file(tagged_flac(tmp_path / "x.flac"), tmp_path / "x.rvc", model=stereo_model)
    done = CliRunner().invoke(main, ["decode", str(tmp_path / "x.rvc"), "-"])
    assert done.exit_code == 0
    (tmp_path / "x.wav").write_bytes(done.stdout_bytes)
    assert read(tmp_path / "x.wav") == FULL
    assert len(soundfile.read(tmp_path / "x.wav")[0]) == 8820


def test_replaygain_is_never_that_of_the_decoded_file(tmp_path: Path, stereo_model: Model) -> None:
    loud = {"REPLAYGAIN_TRACK_GAIN": ["-3 dB"], "R128_TRACK_GAIN": ["256"], "TITLE": ["x"]}
    encode_file(tagged_flac(tmp_path / "x.flac", loud), tmp_path / "x.rvc", model=stereo_model)
    for suffix in (".flac", ".ogg", ".wav", ".aiff"):
        decode_file(tmp_path / "x.rvc", tmp_path / f"y{suffix}", model=stereo_model)
        tags = read(tmp_path / f"y{suffix}")
        assert tags["ORIGINAL_REPLAYGAIN_TRACK_GAIN"] == ["-3 dB"]
        assert tags["ORIGINAL_R128_TRACK_GAIN"] == ["256"]
        assert not any(name.startswith(("REPLAYGAIN", "R128")) for name in tags)


def test_pictures_on_request(tmp_path: Path, stereo_model: Model) -> None:
    path, stream = tagged_flac(tmp_path / "x.flac", {"TITLE": ["x"]}), tmp_path / "x.rvc"
    flac = FLAC(path)
    flac.add_picture(picture())
    flac.save()
    done = encode_file(path, stream, model=stereo_model)
    assert "--pictures" in done.remarks[0]
    assert inspect_file(stream).meta == {"tags": {"TITLE": "x"}}
    done = encode_file(path, stream, model=stereo_model, pictures=True, force=True)
    assert not done.remarks
    shown = call("info", stream).stdout
    assert "a picture, image/png, 512 bytes" in shown and len(shown) < 2000
    for suffix in (".flac", ".ogg", ".wav", ".aiff"):
        decode_file(stream, tmp_path / f"y{suffix}", model=stereo_model)
        (block,) = read(tmp_path / f"y{suffix}", pictures=True)["METADATA_BLOCK_PICTURE"]
        found = Picture(base64.b64decode(block))
        assert (found.data, found.mime, found.type) == (picture().data, "image/png", 3)
    flac.add_picture(picture(2_000_000))
    flac.save()
    done = encode_file(path, stream, model=stereo_model, pictures=True, force=True)
    assert "pictures of more than" in done.remarks[0]


def test_without_mutagen_wav_still_has_its_own_and_the_rest_is_said(
    tmp_path: Path, stereo_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = tmp_path / "x.rvc"
    encode_file(tagged_flac(tmp_path / "x.flac"), stream, model=stereo_model)
    for module in ("tag_reading", "tag_writing"):
        monkeypatch.setattr(f"ravecodec.audio.{module}.has_mutagen", lambda: False)
    done = encode_file(tmp_path / "x.flac", tmp_path / "y.rvc", model=stereo_model)
    assert "pip install 'ravecodec[tags]'" in done.remarks[0]
    assert not encode_file(
        tmp_path / "x.flac", tmp_path / "z.rvc", model=stereo_model, tags=False
    ).remarks
    for suffix in (".flac", ".wav"):
        done = decode_file(stream, tmp_path / f"y{suffix}", model=stereo_model)
        assert "pip install 'ravecodec[tags]'" in done.remarks[0]
    assert read(tmp_path / "y.wav").items() >= {"ARTIST": ["One"], "TITLE": FULL["TITLE"]}.items()


# ---- the command line ----------------------------------------------------------------------------


def test_encode_options(tmp_path: Path, stereo_model: Model) -> None:
    path, stream = tagged_flac(tmp_path / "x.flac"), tmp_path / "x.rvc"
    own = ("--tag", "title=mine", "--tag", "a=1", "--tag", "a=2")
    assert call("encode", path, *own).exit_code == 0
    tags = inspect_file(stream).meta["tags"]
    assert tags["title"] == "mine" and "TITLE" not in tags and tags["a"] == ["1", "2"]
    assert tags["ARTIST"] == ["One", "Two"]
    shown = call("info", stream).stdout
    assert "ARTIST = One\n" in shown and "ARTIST = Two\n" in shown
    assert call("encode", path, "-f", "--no-tags", *own).exit_code == 0
    assert inspect_file(stream).meta == {"tags": {"title": "mine", "a": ["1", "2"]}}
    assert call("encode", path, "-f", "--no-tags").exit_code == 0
    bare = stream.read_bytes()
    audio, rate = soundfile.read(path, dtype="float32")
    assert encode(audio.T, rate, stereo_model) == bare
    streams = []
    for name in ("one.flac", "two.flac"):  # neither names nor times are in the bytes
        shutil.copy(path, tmp_path / name)
        os.utime(tmp_path / name, (1, 1))
        assert call("encode", tmp_path / name).exit_code == 0
        streams.append((tmp_path / name).with_suffix(".rvc").read_bytes())
    assert streams[0] == streams[1]


def test_many_files_keep_their_tags_and_times(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        path = tagged_flac(tmp_path / "in" / f"{number}.flac", {"TITLE": [str(number)]})
        os.utime(path, (1_000_000_000 + number,) * 2)
    options = ("-r", "-j", "1", "--keep-time")
    assert call("encode", *options, tmp_path / "in", "-o", tmp_path / "mid").exit_code == 0
    again = call("encode", *options, tmp_path / "in", "-o", tmp_path / "mid", "--newer")
    assert "3 skipped" in again.stderr
    made = call("decode", *options, tmp_path / "mid", "-o", tmp_path / "out", "--to", "flac")
    assert made.exit_code == 0, made.stderr
    for number in range(3):
        path = tmp_path / "out" / f"{number}.flac"
        assert read(path)["TITLE"] == [str(number)]
        assert path.stat().st_mtime == 1_000_000_000 + number
    refused = call("decode", tmp_path / "mid" / "0.rvc", "-", "--keep-time")
    assert refused.exit_code == 2 and "pipe" in refused.stderr


def chunks(path: Path) -> list[bytes]:
    """The bytes of the AUDIO chunks of a stream that holds in all."""
    data = path.read_bytes()
    return [data[c.offset : c.offset + c.size] for c in StreamReader(io.BytesIO(data)).chunks()]


def test_tag_edits_a_stream_in_place_and_nothing_else(tmp_path: Path, music: Music) -> None:
    path, stream = tmp_path / "x.wav", tmp_path / "x.rvc"
    soundfile.write(path, music(30_000).T, 44_100)
    assert call("encode", path, "--tag", "title=a", "--tag", "b=c").exit_code == 0
    os.utime(stream, (5, 5))
    before = chunks(stream)
    words = ("--set", "TITLE=new", "--set", "ARTIST=x", "--set", "ARTIST=y", "--remove", "B")
    done = call("tag", stream, *words, "--keep-time")
    assert done.exit_code == 0 and "3 tags" in done.stderr
    assert inspect_file(stream).meta == {"tags": {"TITLE": "new", "ARTIST": ["x", "y"]}}
    assert chunks(stream) == before and stream.stat().st_mtime == 5
    assert list(tmp_path.iterdir()) == [path, stream] or len(list(tmp_path.iterdir())) == 2
    done = call(
        "tag", stream, "--remove", "title", "--remove", "artist", "--remove", "none", "--json"
    )
    assert json.loads(done.stdout)["tags"] == {} and "has no tag none" in done.stderr
    assert inspect_file(stream).meta == {} and chunks(stream) == before
    plain = stream.read_bytes()
    assert call("encode", path, tmp_path / "plain.rvc").exit_code == 0
    assert (tmp_path / "plain.rvc").read_bytes() == plain
    assert call("tag", stream, "--set", "A=b", "-o", tmp_path / "new.rvc").exit_code == 0
    assert stream.read_bytes() == plain
    piped = CliRunner().invoke(main, ["tag", "-", "--set", "A=b"], input=plain)
    assert piped.stdout_bytes == (tmp_path / "new.rvc").read_bytes()


def test_tag_of_many_streams_and_of_bad_ones(tmp_path: Path, music: Music) -> None:
    soundfile.write(tmp_path / "x.wav", music(9000).T, 44_100)
    for name in ("a", "b"):
        assert call("encode", tmp_path / "x.wav", tmp_path / f"{name}.rvc").exit_code == 0
    good = (tmp_path / "a.rvc").read_bytes()
    bad = bytes([*good[:-9], good[-9] ^ 1, *good[-8:]])
    (tmp_path / "bad.rvc").write_bytes(bad)
    done = call("tag", "-r", tmp_path, "--set", "ALBUM=x")
    assert done.exit_code == 5 and "1 of 3 files failed" in done.stderr
    for name in ("a", "b"):
        assert inspect_file(tmp_path / f"{name}.rvc").meta == {"tags": {"ALBUM": "x"}}
    assert (tmp_path / "bad.rvc").read_bytes() == bad
    for args, code in (
        (["a.rvc"], 2),
        (["a.rvc", "--set", "x"], 2),
        (["a.rvc", "--set", "=x"], 2),
        (["none.rvc", "--set", "a=b"], 3),
        (["x.wav", "--set", "a=b"], 4),
        (["a.rvc", "--set", "a=b", "-o", "b.rvc"], 8),
        (["a.rvc", "--set", "a=b", "-o", "a.rvc"], 2),
        (["a.rvc", "b.rvc", "--set", "a=b", "-o", "c.rvc"], 2),
        (["a.rvc", "--set", "a=" + "x" * 2_000_000], 2),
    ):
        args = [str(tmp_path / arg) if arg.endswith((".rvc", ".wav")) else arg for arg in args]
        done = call("tag", *args)
        assert done.exit_code == code, (args[1:2], done.stderr)
    assert inspect_file(tmp_path / "a.rvc").meta == {"tags": {"ALBUM": "x"}}
    with pytest.raises(UsageError, match="pipe"):
        tag_file("-", "-", assign={"a": "b"}, keep_time=True)


def test_looking_for_tags_loads_neither_torch_nor_mutagen() -> None:
    code = (
        "import ravecodec.tagging, ravecodec.cli, sys; print({'torch', 'mutagen'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, "torch", "mutagen"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_missing_mutagen_is_told_where_there_are_tags_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ravecodec.audio.tag_reading.has_mutagen", lambda: False)
    path = tmp_path / "plain.flac"
    soundfile.write(path, np.zeros(4_000), 8_000)
    for title, told in (("", False), ("Meander", True)):
        with soundfile.SoundFile(path, "w", 8_000, 1) as file:
            if title:
                file.title = title
            file.write(np.zeros(4_000))
        with open_input(path, tags=True) as audio:
            list(audio.blocks(1 << 16))
            assert any("mutagen is not installed" in each for each in audio.remarks) == told
