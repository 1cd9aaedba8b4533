"""Training audio: the cache survives kills, the split never leaks, and crops are functions of
(seed, step).
"""

import gc
import json
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ravecodec.errors import InputError, OutputError
from ravecodec.train.augment import POLE_HERTZ, SETTLING, SPEEDS, change_speed, turn_phase
from ravecodec.train.cache import Library, Track, build_cache, describe, scan
from ravecodec.train.data import PLAIN, Augmentation, Crops, seed_for_draws, split

RATE = 48_000


def tone(seconds: float, hertz: float = 440, channels: int = 2) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * hertz * (1 + c) * time) for c in range(channels)], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three readable files in two folders, one that is no audio, one that has no sound, one of
    another kind.
    """
    music = tmp_path / "music"
    (music / "album").mkdir(parents=True)
    soundfile.write(music / "b.wav", tone(0.5), RATE)
    soundfile.write(music / "album" / "a.flac", tone(0.25, 330, 1), RATE)
    soundfile.write(music / "c.WAV", tone(0.4)[::2], RATE // 2)
    soundfile.write(music / "empty.wav", tone(0), RATE)
    (music / "broken.wav").write_bytes(b"RIFF nothing")
    (music / "notes.txt").write_text("not audio")
    return music


def audio_of(cache: Path) -> np.ndarray:
    return np.fromfile(cache / "audio.i16", "<i2").reshape(-1, 2)


def test_the_cache_holds_every_readable_file_in_order(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    tracks = build_cache(folder, tmp_path / "cache", RATE, 2, lines.append).tracks
    assert [t.path for t in tracks] == ["album/a.flac", "b.wav", "c.WAV", "empty.wav"]
    assert [t.frames for t in tracks] == [12_000, 24_000, 19_200, 0]
    assert [t.start for t in tracks] == [0, 12_000, 36_000, 55_200]
    audio = audio_of(tmp_path / "cache")
    assert len(audio) == tracks[-1].stop
    mono, stereo = audio[:12_000], audio[12_000:36_000]
    assert np.array_equal(mono[:, 0], mono[:, 1])
    assert np.abs(stereo - np.rint(tone(0.5) * 32767)).max() <= 2  # 16-bit files
    left_out = [line for line in lines if line.startswith("left out")]
    assert len(left_out) == 1 and "broken.wav" in left_out[0]


def test_a_finished_cache_is_not_touched(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = build_cache(folder, cache, RATE, 2)
    before = {p.name: (p.read_bytes(), p.stat().st_ino) for p in cache.iterdir()}
    assert build_cache(folder, cache, RATE, 2) == first
    assert {p.name: (p.read_bytes(), p.stat().st_ino) for p in cache.iterdir()} == before


def placed(library: Library) -> list[tuple[str, int, int]]:
    return [(t.path, t.start, t.frames) for t in library.tracks]


def test_new_files_are_added_behind(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = placed(build_cache(folder, cache, RATE, 2))
    soundfile.write(folder / "a-new.wav", tone(0.1), RATE)
    assert placed(build_cache(folder, cache, RATE, 2)) == [*first, ("a-new.wav", 55_200, 4_800)]


def test_a_changed_file_is_decoded_anew_and_a_removed_one_is_not_used(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build_cache(folder, cache, RATE, 2)
    soundfile.write(folder / "b.wav", tone(0.3, 500), RATE)
    (folder / "album" / "a.flac").unlink()
    tracks = build_cache(folder, cache, RATE, 2).tracks
    assert [(t.path, t.frames) for t in tracks] == [
        ("c.WAV", 19_200),
        ("empty.wav", 0),
        ("b.wav", 14_400),
    ]
    assert (
        np.abs(
            audio_of(cache)[tracks[2].start : tracks[2].stop] - np.rint(tone(0.3, 500) * 32767)
        ).max()
        <= 2
    )
    shutil.copy2(folder / "b.wav", folder / "album" / "a.flac")  # back, but another sound
    again = build_cache(folder, cache, RATE, 2)
    assert [t.path for t in again.tracks] == ["c.WAV", "empty.wav", "b.wav"]
    assert again.duplicates == {"album/a.flac": "b.wav"}


def test_the_library_is_described(folder: Path, tmp_path: Path) -> None:
    loud = np.clip(3 * tone(1.0), -1, 1)
    soundfile.write(folder / "loud.wav", loud, RATE)
    soundfile.write(folder / "quiet.wav", 1e-5 * tone(1.0), RATE)
    shutil.copy(folder / "loud.wav", folder / "z again.wav")
    library = build_cache(folder, tmp_path / "cache", RATE, 2)
    found = library.summary(RATE)
    seconds = 0.5 + 0.25 + 0.4 + 1 + 1
    assert found["files"] == 6 and found["hours"] == pytest.approx(seconds / 3600, abs=1e-3)
    assert found["silence"] == pytest.approx(1 / seconds, abs=0.01)
    assert found["rates"] == {RATE: 5, RATE // 2: 1} and found["channels"] == {2: 5, 1: 1}
    assert list(found["clipped"]) == ["loud.wav"]
    assert found["clipped"]["loud.wav"] == np.count_nonzero(np.abs(loud) >= 1)
    assert found["duplicates"] == {"z again.wav": "loud.wav"}
    assert len(found["unreadable"]) == 1 and "broken.wav" in found["unreadable"][0]
    said = "\n".join(describe(found))
    assert "6 files" in said and "24000 Hz" in said and "1 files reach full scale: loud.wav" in said
    assert (
        "1 files repeat another and are left out: z again.wav" in said
        and "1 files cannot be read" in said
    )


def test_what_is_passed_over_is_named(folder: Path, tmp_path: Path) -> None:
    """Linked folders, dangling links and formats that are not read; a link to a file is read."""
    (tmp_path / "elsewhere").mkdir()
    soundfile.write(tmp_path / "elsewhere" / "x.wav", tone(0.2, 200), RATE)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (folder / "one.wav").symlink_to(tmp_path / "elsewhere" / "x.wav")
    (folder / "song.m4a").write_bytes(b"x")
    (folder / "album" / "cover.png").write_bytes(b"x")
    library = build_cache(folder, tmp_path / "cache", RATE, 2)
    found = library.summary(RATE)
    assert found["links"] == [str(folder / "gone.wav"), str(folder / "linked")]
    assert found["unread"] == [str(folder / "song.m4a")] and found["closed"] == []
    assert "one.wav" in [track.path for track in library.tracks]
    said = "\n".join(describe(found))
    assert (
        "2 links lead to folders or to nothing" in said
        and f"are not read: {folder / 'song.m4a'}" in said
    )


def test_a_full_disk_is_an_output_error_and_the_cache_goes_on(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    handler, limit = (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"audio\.i16: cannot be written"):
            build_cache(folder, cache, RATE, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(audio_of(cache)) == 12_000  # the first file
    assert (
        build_cache(folder, cache, RATE, 2).tracks
        == build_cache(folder, tmp_path / "other", RATE, 2).tracks
    )


def test_what_a_kill_leaves_behind_is_repaired(
    folder: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """A torn last line, audio without its line, lines without their audio: the cache comes out the
    same.
    """
    cache = tmp_path / "cache"
    tracks = build_cache(folder, cache, RATE, 2).tracks
    wanted, index = audio_of(cache), (cache / "tracks.jsonl").read_text()
    for index_bytes, audio_bytes in [
        (-1, 0),
        (-30, 0),
        (0, 100),
        (-30, 100),
        (-1000, 0),
        (0, -4),
        (0, -90_000),
        (0, -(10**9)),
        (-30, -90_000),
    ]:
        with subtests.test(index_bytes=index_bytes, audio_bytes=audio_bytes):
            for path, change in (
                (cache / "tracks.jsonl", index_bytes),
                (cache / "audio.i16", audio_bytes),
            ):
                data = path.read_bytes()
                path.write_bytes(
                    data + bytes(change) if change > 0 else data[: max(0, len(data) + change)]
                )
            assert build_cache(folder, cache, RATE, 2).tracks == tracks
            assert np.array_equal(audio_of(cache), wanted)
            assert (cache / "tracks.jsonl").read_text() == index


def test_a_cache_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    build_cache(folder, tmp_path / "cache", RATE, 2)
    for rate, channels in ((44_100, 2), (RATE, 1)):
        with pytest.raises(InputError, match="other settings"):
            build_cache(folder, tmp_path / "cache", rate, channels)


def test_folders_without_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no audio files"):
        scan(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"no")
    with pytest.raises(InputError, match="none of 1 audio files"):
        build_cache(tmp_path, tmp_path / "cache", RATE, 2)


names = st.lists(
    st.tuples(st.text(min_size=1), st.integers(0, 10**6)),
    min_size=2,
    max_size=80,
    unique_by=lambda x: x[0],
)


def laid_out(files: list[tuple[str, int]]) -> list[Track]:
    starts = np.cumsum([0, *(frames for _, frames in files)])
    return [
        Track(name, int(start), frames)
        for (name, frames), start in zip(files, starts, strict=False)
    ]


@settings(deadline=None)
@given(names)
def test_the_split_never_puts_a_file_on_both_sides(files: list[tuple[str, int]]) -> None:
    tracks = laid_out(files)
    training, validation = split(tracks)
    sounding = [t for t in tracks if t.frames]
    if len(sounding) > 1:
        assert sorted(training + validation, key=lambda t: t.start) == sounding
        assert not {t.path for t in training} & {t.path for t in validation}
        assert len(validation) == max(1, round(0.05 * len(sounding)))
    assert split(tracks[::-1]) == (training, validation)


def test_the_split_goes_by_name_not_by_neighbours() -> None:
    tracks = laid_out([(f"{i}.wav", 100) for i in range(100)])
    held = {t.path for t in split(tracks)[1]}
    assert held == {t.path for t in split(tracks[:50] + tracks[50:])[1]}
    # One file more or less moves at most one.
    assert len(held - {t.path for t in split(tracks[:99])[1]}) <= 1


def test_a_single_file_is_split_in_time() -> None:
    training, validation = split([Track("a.wav", 0, 1005), Track("silent.wav", 1005, 0)])
    assert (training, validation) == ([Track("a.wav", 0, 905)], [Track("a.wav", 905, 100)])


def test_names_that_are_no_unicode_are_split_too() -> None:
    tracks = laid_out([("caf\udce9.wav", 10), ("b.wav", 10)])
    assert len(split(tracks)[1]) == 1


LENGTH = 2_000


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A long track whose channels differ, one of silence, and one that is shorter than a crop:
    TRACKS.
    """
    random = np.random.default_rng(0)
    audio = np.zeros((61_000, 2))
    audio[:40_000] = random.uniform(-8_000, 8_000, (40_000, 2)) * [1, 0.1]
    audio[60_000:] = 20_000
    audio.astype("<i2").tofile(tmp_path / "audio.i16")
    return tmp_path


TRACKS = [
    Track("noise", 0, 40_000),
    Track("silence", 40_000, 20_000),
    Track("short", 60_000, 1_000),
]


def crops(
    cache: Path, tracks: list[Track] = TRACKS, seed: int = 0, augmentation: Augmentation = PLAIN
) -> Crops:
    return Crops(cache, tracks, channels=2, length=LENGTH, seed=seed, augmentation=augmentation)


def test_batches_depend_on_seed_and_step_only(cache: Path) -> None:
    one, other = crops(cache), crops(cache)
    wanted = [one.batch(step, 3).numpy() for step in range(4)]
    for step in (2, 0, 3):
        assert np.array_equal(other.batch(step, 3).numpy(), wanted[step])
    assert not np.array_equal(wanted[0], wanted[1])
    assert not np.array_equal(crops(cache, seed=1).batch(0, 3).numpy(), wanted[0])


def test_batches_are_audio(cache: Path) -> None:
    batch = np.concatenate([crops(cache).batch(step, 8).numpy() for step in range(20)])
    assert batch.dtype == np.float32 and batch.shape == (160, 2, LENGTH)
    assert np.abs(batch).max() <= 1
    assert batch.flags.c_contiguous


def test_all_tracks_are_heard_and_silence_rarely(cache: Path) -> None:
    batch = np.concatenate([crops(cache).batch(step, 8).numpy() for step in range(60)])
    loud = np.abs(batch).max((1, 2)) > 1e-3
    assert (~loud).sum() <= 10
    only_silence = crops(cache, [TRACKS[1]]).batch(0, 4).numpy()
    assert 0 < np.abs(only_silence).max() < 1e-4  # dequantised, not amplified


def test_short_tracks_are_joined_never_padded(cache: Path) -> None:
    alone = crops(cache, [TRACKS[2]]).batch(0, 8).numpy()
    assert (np.abs(alone).min(2) > 0.1).all()  # twice the same second
    mixed = np.concatenate([crops(cache).batch(step, 8).numpy() for step in range(60)])
    begins = np.abs(mixed[:, 0, :1000] - mixed[:, 0, :1]).max(1) < 1e-3
    joined = mixed[begins & (np.abs(mixed[:, 0, 0]) > 0.1)]
    assert len(joined) > 0
    assert any(np.abs(crop[0, 1000:] - crop[0, 0]).max() > 0.05 for crop in joined)


def test_gains_spread_over_their_range(cache: Path) -> None:
    batch = np.concatenate([crops(cache, [TRACKS[0]]).batch(step, 8).numpy() for step in range(40)])
    level = 20 * np.log10(batch.std(2).max(1) / (8_000 / np.sqrt(3) / 32_768))
    assert -9.3 < level.min() < -8 and 2 < level.max() < 3.3


def test_channels_are_swapped_half_of_the_time(cache: Path) -> None:
    batch = np.concatenate([crops(cache, [TRACKS[0]]).batch(step, 8).numpy() for step in range(40)])
    left_is_louder = batch[:, 0].std(1) > batch[:, 1].std(1)
    assert 0.4 < left_is_louder.mean() < 0.6


def test_some_crops_stand_elsewhere_in_the_stereo_image(cache: Path) -> None:
    """Every balance, silence on one side and opposite polarity among them; none of it unless it is
    asked for.
    """
    audio = np.memmap(cache / "audio.i16", "<i2", "r+").reshape(-1, 2)
    audio[:40_000, 1] = audio[:40_000, 0]
    placed = crops(cache, [TRACKS[0]], 0, Augmentation(placed=0.5))
    left, right = np.concatenate([placed.batch(step, 8).numpy() for step in range(80)]).transpose(
        1, 0, 2
    )
    # 1: as it was.
    balance = (left * right).sum(1) / np.maximum((left**2).sum(1), (right**2).sum(1))
    assert 0.4 < (balance > 0.99).mean() < 0.6
    assert 0.05 < (np.abs(balance) < 0.01).mean() < 0.15
    assert 0.02 < (balance < -0.01).mean() < 0.08
    assert all(np.histogram(balance, 4, (0.01, 0.99))[0] > 20)
    assert np.abs(left).max() <= 1 and np.abs(right).max() <= 1


def test_the_order_of_draws_never_changes(cache: Path) -> None:
    """Old runs go on with the audio they would have seen: a plain batch, drawn by hand, is the same
    to the bit.
    """
    audio, random = (
        np.memmap(cache / "audio.i16", "<i2", "r").reshape(-1, 2),
        np.random.default_rng((7, 2)),
    )
    starts = []
    for _ in range(3):
        random.choice(1, p=[1.0])
        starts.append(random.integers(40_000 - LENGTH + 1))
    wanted = np.stack([audio[start : start + LENGTH] for start in starts]).astype(np.float32)
    wanted += random.uniform(-0.5, 0.5, wanted.shape).astype(np.float32)
    random.random(3)  # which of them stand elsewhere: none
    gain = 10 ** (random.uniform(-9, 3, (3, 1, 1)) / 20) / 32768
    wanted *= gain.astype(np.float32)
    swapped = random.random(3) < 0.5
    wanted[swapped] = wanted[swapped][..., ::-1]
    assert swapped.any() and not swapped.all()
    assert np.array_equal(
        crops(cache, [TRACKS[0]], seed=7).batch(2, 3).numpy(), wanted.transpose(0, 2, 1)
    )


def test_a_seed_takes_the_place_of_draws() -> None:
    """On a GPU the dequantisation noise is drawn there; gains and places stay those of a CPU."""
    plain, seeded, again = (np.random.default_rng((3, 4)) for _ in range(3))
    plain.uniform(-0.5, 0.5, (5, 7))
    seeds = seed_for_draws(seeded, 35), seed_for_draws(again, 1)
    assert seeds[0] == seeds[1]
    assert plain.random() == seeded.random() != again.random()


def test_an_allpass_is_the_filter_it_claims_to_be() -> None:
    """Against the recursion, sample by sample, on noise that begins where the response has died
    away.
    """
    angle, radius, settled = 0.02, 0.99, SETTLING
    sound = np.random.default_rng(0).normal(size=(settled + 3_000, 2)).astype(np.float32)
    feedback = (2 * radius * np.cos(angle), -(radius**2))
    x, y = sound.astype(float), np.zeros_like(sound, dtype=float)
    for n in range(2, len(x)):
        y[n] = (
            radius**2 * x[n]
            - feedback[0] * x[n - 1]
            + x[n - 2]
            + feedback[0] * y[n - 1]
            + feedback[1] * y[n - 2]
        )
    assert np.abs(turn_phase(torch.from_numpy(sound), angle).numpy() - y)[settled:].max() < 1e-4


@pytest.mark.parametrize("hertz", POLE_HERTZ)
def test_an_allpass_delays_its_frequency_and_keeps_every_magnitude(hertz: float) -> None:
    click = np.zeros((SETTLING * 2, 2), np.float32)
    click[0] = 1, -0.5
    response = turn_phase(torch.from_numpy(click), 2 * np.pi * hertz / RATE).numpy()
    # The same filter for both channels.
    assert np.allclose(response[:, 1], -0.5 * response[:, 0], atol=1e-6)
    assert np.abs(response[SETTLING:]).max() < 1e-5  # nothing is left to come round
    spectrum = np.fft.rfft(response[:, 0].astype(float))
    assert np.abs(np.abs(spectrum) - 1).max() < 1e-4
    delay = -np.diff(np.unwrap(np.angle(spectrum))) / (2 * np.pi / len(click))
    assert delay.argmax() == pytest.approx(hertz * len(click) / RATE, abs=4)
    assert delay.max() > 150 and np.median(delay) < 2  # (1 + r) / (1 - r) = 199 samples at the pole


def test_the_allpass_of_a_batch_is_seeded_and_takes_its_share(cache: Path) -> None:
    audio = np.memmap(cache / "audio.i16", "<i2", "r+").reshape(-1, 2)
    audio[:40_000] = 0
    audio[:40_000:50] = (
        # a train of clicks: any filter shows, however far it lies from the frequency of another
        8_000
    )
    often = Augmentation(allpass=0.8)
    one, other = (crops(cache, [TRACKS[0]], 0, often) for _ in range(2))
    batches = [one.batch(step, 8).numpy() for step in range(30)]
    assert all(np.array_equal(other.batch(step, 8).numpy(), batches[step]) for step in (29, 3))
    sounds = np.concatenate(batches)
    assert sounds.shape == (240, 2, LENGTH) and np.abs(sounds).max() <= 1
    crest = np.abs(sounds).max((1, 2)) / sounds.std((1, 2))
    untouched = crest > crest.max() * 0.999
    assert 0.12 < untouched.mean() < 0.28


def periodic(cycles: int, frames: int) -> np.ndarray:
    """Sines [frames, 2] of whole numbers of cycles, of amplitudes 1 and 0.25."""
    phase = 2 * np.pi * cycles * np.arange(frames) / frames + 0.3
    return (np.sin(phase)[:, None] * [1, 0.25]).astype(np.float32)


def test_another_speed_moves_a_sine_and_keeps_its_amplitude(subtests: pytest.Subtests) -> None:
    """As many cycles in another length are the same sine; half of the lower rate and what is above
    it is gone instead of folded."""
    for frames, length in [(1_064, 1_000), (1_063, 1_000), (940, 1_000), (937, 1_001)]:
        for cycles in (0, 1, 77, 467, 468, 469, 470, 499, 500, 501, 530, 531, 532):
            if cycles > frames / 2:
                continue
            with subtests.test(frames=frames, length=length, cycles=cycles):
                heard = change_speed(torch.from_numpy(periodic(cycles, frames)), length).numpy()
                kept = cycles < min(frames, length) / 2
                assert heard.shape == (length, 2) and heard.dtype == np.float32
                assert np.abs(heard - kept * periodic(cycles, length)).max() < 1e-4


def write_tone(cache: Path, hertz: float) -> None:
    """The long track becomes a sine of amplitude 8000, left only."""
    audio = np.memmap(cache / "audio.i16", "<i2", "r+").reshape(-1, 2)
    sine = 8_000 * np.sin(2 * np.pi * hertz / RATE * np.arange(40_000))
    audio[:40_000] = np.rint(sine)[:, None] * [1, 0]


def test_a_share_of_crops_is_faster_or_slower_at_the_same_level(cache: Path) -> None:
    """Peaks of windowed spectra: a tone stands where one of SPEEDS moves it, as loud as others."""
    write_tone(cache, 6_000)
    augmentation = Augmentation(speed=0.5)
    tones, batches = crops(cache, [TRACKS[0]], 0, augmentation), range(50)
    sounds = np.concatenate([tones.batch(step, 8).numpy() for step in batches])
    plain = np.concatenate([crops(cache, [TRACKS[0]]).batch(step, 8).numpy() for step in batches])
    window = np.hanning(LENGTH)
    found, before = (
        np.abs(np.fft.rfft(x.sum(1) * window, 16 * LENGTH)) / window.sum() * 2
        for x in (sounds, plain)
    )
    speed = found.argmax(1) * RATE / (16 * LENGTH) / 6_000
    nearest = np.array([1, *SPEEDS])[np.abs(speed[:, None] - [1, *SPEEDS]).argmin(1)]
    assert np.abs(speed - nearest).max() < 1e-3
    assert 0.4 < (nearest != 1).mean() < 0.6
    assert all((nearest == wanted).sum() > 8 for wanted in SPEEDS)
    assert found.max(1) == pytest.approx(before.max(1), rel=0.01)  # the same gains


def test_another_speed_takes_no_draws_from_the_other_augmentations(cache: Path) -> None:
    """Crops that keep their speed are to the bit what they were, and nothing depends on the order
    of batches."""
    everything = {"placed": 0.5, "allpass": 0.5, "faint": 0.5}
    before, after, again = (
        crops(cache, TRACKS, 3, Augmentation(speed=share, **everything))
        for share in (0.0, 0.3, 0.3)
    )
    batches = [after.batch(step, 8).numpy() for step in range(20)]
    assert all(np.array_equal(again.batch(step, 8).numpy(), batches[step]) for step in (19, 4, 0))
    old = [before.batch(step, 8).numpy() for step in range(20)]
    same = (np.concatenate(old) == np.concatenate(batches)).all((1, 2))
    assert 0.6 < same.mean() < 0.8


def test_every_kind_of_track_can_be_played_at_another_speed(cache: Path) -> None:
    """Silence stays rare and silent, short tracks are joined, and crops stay in their tracks."""
    always = Augmentation(speed=1.0)
    changed = crops(cache, TRACKS, 0, always)
    batch = np.concatenate([changed.batch(step, 8).numpy() for step in range(60)])
    assert batch.shape == (480, 2, LENGTH) and np.abs(batch).max() <= 1
    assert (np.abs(batch).max((1, 2)) < 1e-3).sum() <= 10
    silence = crops(cache, [TRACKS[1]], 0, always).batch(0, 4).numpy()
    assert 0 < np.abs(silence).max() < 1e-4
    short = crops(cache, [TRACKS[2]], 0, always).batch(0, 8).numpy()
    assert (np.abs(short).min(2) > 0.1).all()  # constant at every speed
    audio = np.memmap(cache / "audio.i16", "<i2", "r+").reshape(-1, 2)
    audio[:20_000], audio[20_000:] = 1_000, 32_000
    first = crops(cache, [Track("first", 0, 20_000)], 0, always)
    level = np.concatenate([first.batch(step, 8).numpy() for step in range(20)])
    assert np.abs(level).max() < 1_001 / 32_768 * 10 ** (3 / 20)


def test_crops_stay_inside_their_tracks(cache: Path) -> None:
    """Neighbours in the file are different music: a training crop never holds validation audio."""
    audio = np.memmap(cache / "audio.i16", "<i2", "r+")
    audio[2 * 20_000 :] = 32_000
    batch = np.concatenate(
        [crops(cache, [Track("first", 0, 20_000)]).batch(step, 8).numpy() for step in range(40)]
    )
    assert np.abs(np.diff(batch, axis=2)).max() > 0
    assert (np.abs(batch).max((1, 2)) < 8_001 / 32_768 * 10 ** (3 / 20) + 1e-3).all()


def test_no_audio_is_refused(cache: Path) -> None:
    with pytest.raises(InputError, match="no audio to draw crops from"):
        crops(cache, [Track("empty", 0, 0)])


def test_the_index_is_one_json_line_a_track(folder: Path, tmp_path: Path) -> None:
    library = build_cache(folder, tmp_path / "cache", RATE, 2)
    lines = [
        json.loads(line) for line in (tmp_path / "cache" / "tracks.jsonl").read_text().splitlines()
    ]
    assert [line for line in lines if not line["error"]] == [vars(t) for t in library.tracks]
    assert [line["error"] for line in lines if line["error"]] == library.unreadable


def test_a_cache_is_not_changed_under_a_run(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = build_cache(folder, cache, RATE, 2)
    second = build_cache(folder, cache, RATE, 2)  # many may read
    soundfile.write(folder / "new.wav", tone(0.1), RATE)
    with pytest.raises(InputError, match="another run uses it"):
        build_cache(folder, cache, RATE, 2)
    assert first == second
    del first, second
    gc.collect()
    assert [t.path for t in build_cache(folder, cache, RATE, 2).tracks][-1] == "new.wav"
