"""Fuzzing: bytes from anyone must end in an error of ravecodec or in correct data, in bounded time
and memory.

    python tests/fuzz/fuzz.py TARGET --cases 100000 --seed 1    plain random mutation
    python tests/fuzz/guided.py TARGET CORPUS -runs=100000      by coverage: `ravecodec[fuzz]`
    python tests/fuzz/long.py                                   the long run: one after the other

TARGET is container, meta, model, decode or embedded. Seeds are the golden vectors, a tiny model,
and what lies in `tests/fuzz/corpus/TARGET`, where inputs that once failed stay. Streams are mutated
and then, mostly, given right checksums, so that what lies behind the checksums is reached. A case
that fails (another exception, more than SECONDS, more than MEMORY) is written to the folder that
--findings names, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

from ravecodec.bitstream import (
    EmbeddedModel,
    Predictor,
    StaticModel,
    StreamReader,
    StreamWriter,
)
from ravecodec.bitstream.container import (
    MAGIC,
    PREFIX_BYTES,
    SYNC,
    ChunkType,
    crc32_bytes,
    header_crc,
)
from ravecodec.bitstream.limits import MAX_META
from ravecodec.bitstream.meta import decode_meta, encode_meta
from ravecodec.bitstream.varint import Cursor
from ravecodec.errors import RavecodecError

if TYPE_CHECKING:
    from ravecodec.models.package import Model

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
SECONDS = 10  # of one case
MEMORY = 2 << 30  # of address space beyond what is in use when a run begins
LARGEST = 1 << 16  # bytes of a mutated stream

Target = Callable[[bytes], None]


# ---- targets: they return, or raise a RavecodecError ---------------------------------------------

SHAPES, SCALES = np.arange(16, dtype=np.uint8) % 5, np.arange(62, 62 - 16 * 3, -3).astype(np.int16)
WEIGHTS = (np.arange(32).reshape(16, 2) * 9973 % 8192 - 4096).astype(np.int16)
TABLES = StaticModel(SHAPES, SCALES, Predictor(WEIGHTS, SHAPES, SCALES))


def container(data: bytes) -> None:
    """Reads a stream strictly, then with salvage; where both succeed they agree."""
    salvaged = StreamReader(io.BytesIO(data))
    for _ in salvaged.chunks("skip"):
        continue
    reader = StreamReader(io.BytesIO(data))
    if reader.model:
        reader.model.unpack("fuzz")
    for chunk in reader.chunks():
        reader.decode_chunk(chunk, TABLES)
    assert (reader.frames, reader.total_samples) == (salvaged.frames, salvaged.total_samples)


def meta(data: bytes) -> None:
    """Decodes the body of a META chunk; what comes out can be written as JSON again."""
    json.dumps(decode_meta(data, 0, "fuzz", MAX_META), ensure_ascii=True)


class _Loaded:
    """The tiny model and a folder of its own, made when they are first needed."""

    folder: Path | None = None
    package: bytes = b""
    whole: Model | None = None

    @classmethod
    def path(cls) -> Path:
        if cls.folder is None:
            fast = Path("/dev/shm")
            cls.folder = Path(
                tempfile.mkdtemp(prefix="ravecodec-fuzz-", dir=fast if fast.is_dir() else None)
            )
            write_tiny_model(cls.folder / "tiny.safetensors")
            cls.package = (cls.folder / "tiny.safetensors").read_bytes()
        return cls.folder / "tiny.safetensors"

    @classmethod
    def model(cls) -> Model:
        """The tiny model, loaded once."""
        if cls.whole is None:
            from ravecodec.models.package import load_package

            cls.whole = load_package(cls.path())
        return cls.whole


def write_tiny_model(path: Path, sample_rate: int = 48_000) -> None:
    """A package of an untrained network that costs next to nothing."""
    import torch

    from ravecodec import analysis
    from ravecodec.models.coding import Coding, Prediction
    from ravecodec.models.config import ModelConfig
    from ravecodec.models.latent import analyse
    from ravecodec.models.package import save_package
    from ravecodec.models.rave import Rave

    torch.set_num_threads(1)
    torch.manual_seed(0)
    analysis.BLOCK_SAMPLES = 1 << 13  # a block costs little
    draws = np.random.default_rng(0)
    latent = analyse(draws.normal(size=(64, 4)), 0.1 + draws.random((64, 4)))
    shapes, scales = np.ones(4, np.uint8), np.full(4, 40, np.int16)
    prediction = Prediction(np.full((4, 2), 900, np.int16), shapes, scales)
    coding = Coding(latent.spread * 3, shapes, scales, 3, 0, True, prediction=prediction)
    config = ModelConfig(sample_rate, capacity=1, latent=4, ratios=(4, 4, 4), dilations=(1,))
    save_package(path, Rave(config).eval(), latent, coding, "tiny", {"licence": "CC0-1.0"})


def model(data: bytes) -> None:
    """Reads a model file's entry, loads it, and codes a moment of sound with it."""
    from ravecodec import zoo
    from ravecodec.encoding import encode
    from ravecodec.models.package import load_package

    path = _Loaded.path().with_name("x.safetensors")
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    zoo.read_tables(zoo.read_entry(path))
    loaded = load_package(path)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            from ravecodec.decoding import decode as decode_stream

            decode_stream(encode(np.full(1000, 0.1), loaded.config.sample_rate, loaded), loaded)
    except RavecodecError:
        pass  # finite weights may still make sound that is not


def decode(data: bytes) -> None:
    """Decodes a whole stream with the tiny model."""
    from ravecodec.decoding import decode as decode_stream

    audio, _ = decode_stream(data, _Loaded.model())
    assert np.isfinite(audio).all()


def embedded(data: bytes) -> None:
    """Decodes a stream that brings a file along as its decoder."""
    from ravecodec.decoding import decode as decode_stream

    out = io.BytesIO()
    writer = StreamWriter(out, replace(StreamReader(io.BytesIO(_BRINGS)).info, minor=1))
    if data:
        writer.write_model(EmbeddedModel.of(data))
    writer.write_chunk(np.ones((2, 3), np.int32))
    writer.close(2000)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        audio, _ = decode_stream(out.getvalue())
    assert np.isfinite(audio).all()


_BRINGS = (VECTORS / "1.2/with_model.rvc").read_bytes()


# ---- seeds ---------------------------------------------------------------------------------------


def seeds(target: str) -> list[bytes]:
    """What mutation begins with."""
    kept = [path.read_bytes() for path in sorted((HERE / "corpus" / target).glob("*"))]
    if target == "container":
        return [path.read_bytes() for path in sorted(VECTORS.glob("*/*.rvc"))] + kept
    if target == "meta":
        objects = [{}, {"tags": {"title": "x" * 50}}, {"a": [1, 2.5, None, {"b": "é"}]}]
        return [encode_meta(value) for value in objects] + kept
    _Loaded.path()
    if target == "embedded":
        brought = StreamReader(io.BytesIO(_BRINGS)).model
        assert brought is not None
        return [brought.unpack("seed"), *kept]
    return ([_Loaded.package] if target == "model" else list(_tiny_streams())) + kept


def _tiny_streams() -> Iterator[bytes]:
    from ravecodec.encoding import encode

    loaded, draws = _Loaded.model(), np.random.default_rng(1)
    for samples, channels, rate in ((0, 1, 8000), (3000, 1, 48000), (30_000, 2, 44_100)):
        yield encode(
            0.3 * draws.normal(size=(channels, samples)).clip(-1, 1), rate, loaded, meta={"a": 1}
        )


def dictionary() -> list[bytes]:
    """The words of rvc.dict."""
    lines = [
        line.split("=", 1)[1]
        for line in (HERE / "rvc.dict").read_text().splitlines()
        if "=" in line
    ]
    return [ast.literal_eval("b" + line) for line in lines]


# ---- mutation ------------------------------------------------------------------------------------


def mutated(data: bytes, draw: random.Random, words: list[bytes]) -> bytes:
    """A few random changes: bits, bytes, stretches that are removed, repeated, moved or
    overwritten.
    """
    out = bytearray(data)
    for _ in range(1 + min(6, int(draw.expovariate(0.7)))):
        at, size = draw.randrange(len(out) + 1), 1 + min(len(out), int(draw.expovariate(0.15)))
        kind = draw.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            word = draw.choice(words)
            out[at : at + draw.choice((0, len(word)))] = word
        elif kind == 5:
            other = draw.randrange(len(out) + 1)
            out[at : at + size] = out[other : other + size]
        else:
            out[at : at + size] = draw.randbytes(size)
    return bytes(out[:LARGEST])


def mend(data: bytes) -> bytes:
    """The stream with right header length and checksums, as far as its chunks can be followed."""
    if len(data) < PREFIX_BYTES + 4 or data[: len(MAGIC)] != MAGIC:
        return data
    head = bytearray(data[: max(PREFIX_BYTES + 4, data[6])])
    head[6] = len(head)
    head[-4:] = crc32_bytes(bytes(head[:-4]))
    out, rest, chain = [bytes(head)], data[len(head) :], zlib.crc32(bytes(head[-4:]))
    while (found := _chunk(rest)) is not None:
        kind, opening, size, body = found
        text = opening + header_crc(opening) + body
        closing = crc32_bytes(text, chain if kind == ChunkType.END else 0)
        chain = zlib.crc32(closing, chain)
        out.append(text + closing)
        rest = rest[size:]
    return b"".join([*out, rest])


def _chunk(data: bytes) -> tuple[int, bytes, int, bytes] | None:
    """(type, header without its CRC, bytes of the chunk, body) of the chunk that begins here."""
    cursor = Cursor(data, 0, "fuzz", open_ended=True)
    try:
        if cursor.take(len(SYNC), "sync") != SYNC:
            return None
        kind = cursor.u8("kind")
        cursor.uvarint(2**42, "position")
        length = cursor.uvarint(2**28, "length")
    except RavecodecError:
        return None
    begin = cursor.pos + 2
    if len(data) < begin + length + 4:
        return None
    return kind, data[: cursor.pos], begin + length + 4, data[begin : begin + length]


def mutated_stream(data: bytes, draw: random.Random, words: list[bytes]) -> bytes:
    """A stream with changes, three times of four mended; its model's id stays."""
    changed = mutated(data, draw, words)
    if draw.random() < 0.25:
        return changed
    return mend(
        changed[:PREFIX_BYTES] + data[PREFIX_BYTES : PREFIX_BYTES + 8] + changed[PREFIX_BYTES + 8 :]
    )


def mutated_model(data: bytes, draw: random.Random, words: list[bytes]) -> bytes:
    """A model file with changes of its JSON, whose length is put right, or of its tensors."""
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    kind = draw.random()
    if kind < 0.1:
        return mutated(data, draw, words)
    if kind < 0.3:
        at = draw.randrange(len(body))
        return data[: 8 + size + at] + draw.choice(words)[:4] + data[8 + size + at + 4 :]
    header = mutated(header, draw, words) if kind < 0.6 else _other_values(header, draw)
    return len(header).to_bytes(8, "little") + header + body


STRANGE = (
    0,
    -1,
    1,
    2,
    3,
    16,
    255,
    65_536,
    10**6,
    10**12,
    10**30,
    1.5,
    True,
    None,
    "",
    "x" * 300,
    [],
    [2] * 20,
    {},
)


def _other_values(header: bytes, draw: random.Random) -> bytes:
    """The header with strange values in its JSON, or in the JSON within."""
    values = json.loads(header)
    metadata = values["__metadata__"]
    for _ in range(draw.randrange(1, 4)):
        part = draw.choice(("config", "config", "point", "tensor", "metadata"))
        if part in ("config", "point"):
            inner = json.loads(metadata[part]) if isinstance(metadata.get(part), str) else {}
            inner[draw.choice([*inner, "more"])] = draw.choice(STRANGE)
            metadata[part] = json.dumps(inner)
        elif part == "tensor":
            entry = values[draw.choice([name for name in values if name != "__metadata__"])]
            entry[draw.choice(("dtype", "shape", "data_offsets"))] = draw.choice(
                (*STRANGE, "F32", "F64", "BF16")
            )
        else:
            metadata[draw.choice([*metadata])] = draw.choice(
                ("", "3", "{}", "[]", "null", "1e999", "x")
            )
        if not all(
            isinstance(metadata.get(key), str) and metadata[key][:1] == "{"
            for key in ("config", "point")
        ):
            break
    return json.dumps(values).encode()


TARGETS: dict[str, tuple[Target, Callable[[bytes, random.Random, list[bytes]], bytes]]] = {
    "container": (container, mutated_stream),
    "meta": (meta, mutated),
    "model": (model, mutated_model),
    "decode": (decode, mutated_stream),
    "embedded": (embedded, mutated_model),
}


# ---- running -------------------------------------------------------------------------------------


class TooSlow(BaseException):
    """A case took more than SECONDS."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def check(target: Target, data: bytes) -> str:
    """How a case ends: the name of ravecodec's error, or "read"; anything else is raised."""
    try:
        target(data)
    except RavecodecError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, (
            f"a long message: {str(error)[:200]}"
        )
        return type(error).__name__
    return "read"


Findings = list[tuple[str, bytes]]
asked_to_stop = False


def _stop(number: int, frame: FrameType | None) -> None:
    global asked_to_stop
    asked_to_stop = True


def run(
    name: str, cases: int, seed: int = 0, seconds: float = float("inf")
) -> tuple[Counter[str], Findings]:
    """Plain random mutation: how many cases ended how, and (traceback, bytes) of those that
    failed.
    """
    target, change = TARGETS[name]
    start, words, draw = seeds(name), dictionary(), random.Random(seed)
    ends: Counter[str] = Counter()
    findings: Findings = []
    before = signal.signal(signal.SIGALRM, _alarm)
    until = time.monotonic() + seconds
    try:
        for _ in range(cases):
            data = change(draw.choice(start), draw, words)
            signal.alarm(SECONDS)
            try:
                ends[check(target, data)] += 1
            except (Exception, TooSlow):
                findings.append((traceback.format_exc(), data))
            finally:
                signal.alarm(0)
            if asked_to_stop or time.monotonic() > until:
                break
    finally:
        signal.signal(signal.SIGALRM, before)
    return ends, findings


def limit_memory() -> None:
    """Bounds the address space of this process, where the system tells how much is in use."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    wanted = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)  # what was done so far is told
    seeds(wanted.target)  # what has to be loaded is
    limit_memory()
    began = time.monotonic()
    ends, findings = run(wanted.target, wanted.cases, wanted.seed, wanted.seconds)
    for number, (trace, data) in enumerate(findings):
        wanted.findings.mkdir(parents=True, exist_ok=True)
        (wanted.findings / f"{wanted.target}-{wanted.seed}-{number}").write_bytes(data)
        print(trace, file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    counts = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    total, took = sum(ends.values()) + len(findings), time.monotonic() - began
    print(
        f"{wanted.target}: {total} cases in {took:.0f} s, {peak} MiB; {counts}; {len(findings)} "
        "findings"
    )
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
