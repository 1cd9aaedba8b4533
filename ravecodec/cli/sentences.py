"""What commands say of streams and files, in sentences and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ravecodec.cli.console import printable
from ravecodec.tagging import shown

if TYPE_CHECKING:
    from ravecodec.batch.items import Totals
    from ravecodec.bitstream import Damage
    from ravecodec.decoding import DecodeSummary
    from ravecodec.encoding import EncodeSummary
    from ravecodec.examine import ChunkSummary, Inspection, StreamSummary, Verification
    from ravecodec.splice import SpliceSummary
    from ravecodec.tagging import TagSummary


def sound(rate: int, channels: int) -> str:
    """The form of audio in words."""
    names = {1: "mono", 2: "stereo"}
    return f"{rate} Hz {names.get(channels, f'{channels} channels')}"


def counted(number: int, noun: str, several: str = "") -> str:
    """A number and its noun: "1 chunk", "2 chunks"; `several` where that is not the noun with s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def shares(stream: StreamSummary) -> str:
    """Where the bytes of a stream went."""
    payload, lost = (
        100 * count / stream.total_bytes for count in (stream.payload_bytes, stream.lost_bytes)
    )
    damage = f"damaged {lost:.1f} %, " if stream.lost_bytes else ""
    share = 100 * stream.model_bytes / stream.total_bytes
    model = f"model {share:.1f} %, " if stream.model_bytes else ""
    rest = 100 - payload - lost - share
    return f"payload {payload:.1f} %, {damage}{model}container {rest:.1f} %"


def cost(stream: StreamSummary) -> str:
    """Size and rate of a stream."""
    return f"{_size(stream)} ({shares(stream)})"


def _size(stream: StreamSummary) -> str:
    """Bytes and rate, and the rate without a decoder that the stream brings along."""
    size = f"{stream.total_bytes} bytes, {stream.kbps:.3f} kbit/s"
    if not stream.model_bytes:
        return size
    return f"{size} ({stream.kbps_without_model:.3f} without the model)"


def encoded(done: EncodeSummary) -> str:
    """The last line of `encode`."""
    stream = done.stream
    what = (
        f"{done.target}: {stream.duration:.3f} s of {sound(stream.sample_rate, stream.channels)} "
        f"in {cost(stream)}"
    )
    low, high = done.steps or (stream.step_index, stream.step_index)
    steps = f"step {low}" if low == high else f"steps {low} to {high}"
    how = f"{counted(stream.dims, 'dim')}, {steps}, model {done.model} ({stream.model_id})"
    if done.quality is not None:
        how = f"quality {done.quality}: {how}"
    parts = [what, how, f"{done.seconds:.1f} s, {done.speed:.1f}x real time"]
    if done.verified:
        parts.append("symbols read back and equal")
    return "; ".join(parts)


def decoded(done: DecodeSummary) -> str:
    """The last line of `decode`."""
    stream, length = done.stream, done.samples / done.sample_rate
    what = (
        f"{done.target}: {length:.3f} s of {sound(done.sample_rate, stream.channels)}, "
        f"{done.container} {done.subtype}"
    )
    speed = f"model {done.model}; {done.seconds:.1f} s, {done.speed:.1f}x real time"
    return "; ".join([f"{what}, from {cost(stream)}", speed, *limited(done.clipped)])


def limited(clipped: int) -> list[str]:
    """That so many samples were limited, if any were."""
    if not clipped:
        return []
    return [f"{beyond_full_scale(clipped)} (--soft-clip bends, --bits float keeps them)"]


def beyond_full_scale(clipped: int) -> str:
    """That so many samples, one or more, were limited."""
    were = "was" if clipped == 1 else "were"
    return f"{counted(clipped, 'sample')} beyond full scale {were} limited"


def damaged(damage: Damage, stream: StreamSummary) -> str:
    """What `decode --salvage` says of a place."""
    frame = stream.duration / max(1, stream.frames)
    begins, seconds = damage.first_frame * frame, (damage.frames or 0) * frame
    if damage.frames is None:
        lost = f"all from {begins:.3f} s on is lost"
    elif damage.frames:
        lost = f"{seconds:.3f} s from {begins:.3f} s on are lost"
    else:
        lost = f"nothing that sounds is lost, at {begins:.3f} s"
    return f"damage: {damage.reason}; {lost} ({damage.size} bytes)"


def spliced(done: SpliceSummary) -> str:
    """The last line of `cut` and `concat`."""
    stream = done.stream
    begins = (
        f", from {done.start / stream.sample_rate:.3f} s of the original on" if done.start else ""
    )
    sounds = sound(stream.sample_rate, stream.channels)
    return f"{done.target}: {stream.duration:.3f} s of {sounds}{begins}, {cost(stream)}"


def inspected(inspection: Inspection) -> str:
    """What `info` shows."""
    stream = inspection.stream
    rows = {
        "format": f"RVC {inspection.version}",
        "model": f"{stream.model_id} ({inspection.model or _not_installed(inspection)})",
        "audio": (
            f"{sound(stream.sample_rate, stream.channels)}, {stream.duration:.3f} s, "
            f"{counted(stream.samples, 'sample')}"
        ),
        "latents": (
            f"{counted(stream.frames, 'frame')} of {inspection.hop} samples at "
            f"{inspection.model_rate} Hz in {counted(stream.chunks, 'chunk')}"
        ),
        "coding": (
            f"{counted(stream.dims, 'dim')}, step {stream.step_index}, noise fill "
            f"{'on' if inspection.noise_fill else 'off'}"
        ),
        "seed": str(inspection.seed),
        "size": _size(stream),
        "payload": f"{stream.payload_bytes} bytes",
        "framing": f"{stream.framing_bytes} bytes ({shares(stream)})",
    }
    if (brought := inspection.embedded) is not None:
        rows["embedded"] = (
            f"decoder of {brought.size} bytes in {brought.bytes}, SHA-256 {brought.sha256}"
        )
    if inspection.meta:
        rows["metadata"] = f"{stream.meta_bytes} bytes"
    tags = inspection.meta.get("tags")
    listed = tags if isinstance(tags, dict) else {}
    others = {key: value for key, value in inspection.meta.items() if value is not listed}
    lines = [inspection.name, *(f"  {name:<9} {value}" for name, value in rows.items())]
    pairs = [(key, each) for key, value in listed.items() for each in _values(value)]
    pairs += list(others.items())
    lines += [f"  {'':<9} {key} = {shown(key, value)}" for key, value in pairs]
    lines += _chunk_rows(inspection.chunks) if inspection.chunks is not None else []
    return "\n".join(map(printable, lines))


def _not_installed(inspection: Inspection) -> str:
    """In place of a model's name, with the one that whoever made the stream gave it."""
    called = inspection.meta.get("model")
    known = f", called {called!r} there" if isinstance(called, str) else ""
    return ("embedded" if inspection.embedded else "not installed") + known


def _values(value: Any) -> list[Any]:
    """A tag's texts, of which it may have several."""
    return value if isinstance(value, list) else [value]


def retagged(done: TagSummary) -> str:
    """The last line of `tag`."""
    count = sum(len(_values(value)) for value in done.tags.values())
    return printable(f"{done.target}: {counted(count, 'tag')}, {cost(done.stream)}")


def inspected_in_one_line(inspection: Inspection) -> str:
    """What `info` shows of one of several streams."""
    stream = inspection.stream
    what = (
        f"{stream.duration:.3f} s of {sound(stream.sample_rate, stream.channels)} in {cost(stream)}"
    )
    model = f"{inspection.model or _not_installed(inspection)} ({stream.model_id})"
    how = f"{counted(stream.dims, 'dim')}, step {stream.step_index}, model {model}"
    return printable(f"{inspection.name}: {what}; {how}")


def added_up(totals: Totals) -> str:
    """The last line of a call with several files."""
    files = [f"{totals.done} of {counted(totals.files, 'file')}"]
    if totals.skipped:
        files.append(f"{totals.skipped} skipped")
    if totals.failed:
        files.append(f"{totals.failed} failed")
    audio = f"{totals.audio_seconds / 3600:.3f} h of audio"
    if totals.bytes:
        audio += f" in {totals.bytes} bytes, {totals.kbps:.3f} kbit/s"
    speed = f"{totals.seconds:.1f} s, {totals.speed:.1f}x real time"
    return "; ".join([", ".join(files), audio, speed])


def _chunk_rows(chunks: Sequence[ChunkSummary]) -> list[str]:
    """A table of chunks, below what `info` shows."""
    names = ("frame", "seconds", "frames", "offset", "bytes", "dims", "step")
    rows = ["  " + " ".join(f"{name:>10}" for name in names)]
    for chunk in chunks:
        values = (
            chunk.frame,
            f"{chunk.seconds:.3f}",
            chunk.frames,
            chunk.offset,
            chunk.bytes,
            chunk.dims,
            chunk.step_index,
        )
        rows.append("  " + " ".join(f"{value:>10}" for value in values) + _remark(chunk))
    return rows


def _remark(chunk: ChunkSummary) -> str:
    """What stands behind a chunk's row."""
    if chunk.silent:
        return "  silent"
    return "  lead-in" if chunk.frame < 0 else ""


def verified(result: Verification) -> str:
    """What `verify` says of a whole stream."""
    assert result.stream is not None
    tables = (
        f"symbols checked with model {result.model}"
        if result.model
        else "symbols not checked, its model is not installed"
    )
    return printable(
        f"{result.name}: ok, {result.stream.duration:.3f} s in "
        f"{counted(result.stream.chunks, 'chunk')}, {tables}"
    )


def failed(result: Verification) -> str:
    """What `verify` says of a damaged one."""
    if result.offset is None or result.seconds is None:
        return f"error: {result.error}"
    return f"error: {result.error} [first bad chunk: byte {result.offset}, {result.seconds:.3f} s]"
