"""The listening test: a kit whose names tell nothing and whose levels are fair, and scores that
know whom to trust.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ravecodec.errors import FormatError, InputError, OutputError, UsageError
from ravecodec.evaluate.filters import low_pass
from ravecodec.evaluate.listening import (
    LOW,
    MID,
    REFERENCE,
    Key,
    Stimulus,
    Trial,
    score_kit,
)
from ravecodec.evaluate.listening_kit import write_kit
from ravecodec.evaluate.results import Condition, Item, Results

pyloudnorm = pytest.importorskip("pyloudnorm")
yaml = pytest.importorskip("yaml")
RATE = 48000
CONDITIONS = ["codec-q3", "codec-q9"]


def noise(seconds: float = 1.0, channels: int = 1, seed: int = 0) -> np.ndarray:
    """White noise [channels, samples], well below full scale."""
    return (
        np.random.default_rng(seed)
        .normal(0, 0.05, (channels, round(seconds * RATE)))
        .astype(np.float32)
    )


def make_results(items: int = 3) -> Results:
    found = [Item(f"song{k}", f"song{k}.wav", 0.0, 1.0, f"{k:02x}", 1, RATE) for k in range(items)]
    conditions = [
        Condition(name, "codec", "model", f"Codec {name[-2:]}") for name in [*CONDITIONS, "other"]
    ]
    return Results("r", "", found, conditions, [], [], [], [], {}, [], {})


def save(audio: Path, item: str, condition: str, samples: np.ndarray, rate: int = RATE) -> None:
    (audio / item).mkdir(parents=True, exist_ok=True)
    soundfile.write(audio / item / f"{condition}.flac", samples.T, rate, subtype="PCM_16")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Three items; codec-q3 is 12 dB too quiet and a little short, codec-q9 a little long."""
    folder = tmp_path / "audio"
    for k in range(3):
        reference = noise(seed=k)
        save(folder, f"song{k}", REFERENCE, reference)
        save(folder, f"song{k}", "codec-q3", noise(0.99, seed=10 + k) / 4)
        save(folder, f"song{k}", "codec-q9", noise(1.01, seed=20 + k))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def loudness(path: Path) -> float:
    samples, rate = soundfile.read(path)
    return pyloudnorm.Meter(rate).integrated_loudness(samples)


def test_files_tell_nothing_and_the_key_everything(tmp_path: Path, audio: Path):
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    key = Key.load(tmp_path / "kit" / "key.json")
    given = tree(tmp_path / "kit" / "listeners")
    words = [*CONDITIONS, "Codec", "song", LOW, MID, "hidden"]
    config = given[f"{key.test}.yaml"].decode().replace("createAnchor", "")
    assert not [word for word in words if word in config or any(word in name for name in given)]
    assert [trial.item for trial in key.trials.values()] == ["song0", "song1", "song2"]
    for name, trial in key.trials.items():
        assert sorted(s.condition for s in trial.stimuli.values()) == sorted(
            [REFERENCE, LOW, MID, *CONDITIONS]
        )
        files = {Path(n).stem: data for n, data in given.items() if f"/{name}/" in n}
        assert set(files) == {REFERENCE, *trial.stimuli}
        assert len({len(data) for data in files.values()}) == 1
        hidden = next(code for code, s in trial.stimuli.items() if s.condition == REFERENCE)
        assert files[hidden] == files[REFERENCE]
    codes = [code for trial in key.trials.values() for code in trial.stimuli]
    assert len(set(codes)) == len(codes)
    orders = {tuple(s.condition for s in trial.stimuli.values()) for trial in key.trials.values()}
    assert len(orders) > 1, "the alphabetical order of the codes gives the conditions away"


def test_every_signal_is_as_loud_as_its_reference(tmp_path: Path, audio: Path):
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    key = Key.load(tmp_path / "kit" / "key.json")
    for name, trial in key.trials.items():
        folder = tmp_path / "kit" / "listeners" / key.test / name
        wanted = loudness(audio / trial.item / "reference.flac")
        assert loudness(folder / "reference.wav") == pytest.approx(wanted, abs=0.01)
        for code, stimulus in trial.stimuli.items():
            assert loudness(folder / f"{code}.wav") == pytest.approx(wanted, abs=0.05), (
                stimulus.condition
            )
            assert stimulus.loudness + stimulus.gain_db == pytest.approx(wanted, abs=0.01)
        gains = {s.condition: s.gain_db for s in trial.stimuli.values()}
        assert gains["codec-q3"] == pytest.approx(12.04, abs=0.3)
        assert gains[REFERENCE] == 0


def test_what_would_clip_turns_the_whole_trial_down(tmp_path: Path, audio: Path):
    clicks = np.zeros((1, RATE), dtype=np.float32)
    clicks[0, ::1000] = 0.9
    save(audio, "song1", "codec-q3", clicks)
    save(audio, "song1", REFERENCE, 0.9 * np.sign(noise()))
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    key = Key.load(tmp_path / "kit" / "key.json")
    gains = [
        {s.condition: s.gain_db for s in trial.stimuli.values()}[REFERENCE]
        for trial in key.trials.values()
    ]
    assert gains[0] == gains[2] == 0
    assert gains[1] < -10
    folder = tmp_path / "kit" / "listeners" / key.test / "trial02"
    levels = [loudness(folder / f"{code}.wav") for code in key.trials["trial02"].stimuli]
    assert max(levels) - min(levels) < 0.1
    peaks = [np.abs(soundfile.read(path)[0]).max() for path in folder.iterdir()]
    assert 0.99 < max(peaks) <= 1


def test_silence_stays_silence(tmp_path: Path, audio: Path):
    save(audio, "song0", "codec-q3", np.zeros((1, RATE), dtype=np.float32))
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    stimuli = Key.load(tmp_path / "kit" / "key.json").trials["trial01"].stimuli.values()
    silent = next(s for s in stimuli if s.condition == "codec-q3")
    assert (silent.loudness, silent.gain_db) == (None, 0)


def test_all_files_of_a_trial_have_one_form(tmp_path: Path, audio: Path):
    save(audio, "song1", REFERENCE, noise(channels=2))
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    listeners = tmp_path / "kit" / "listeners"
    for trial, channels in (("trial01", 1), ("trial02", 2)):
        forms = {
            (i.frames, i.channels, i.samplerate, i.subtype)
            for i in map(soundfile.info, listeners.rglob(f"{trial}/*"))
        }
        assert forms == {(RATE, channels, RATE, "PCM_16")}


def test_the_config_is_what_webmushra_reads(tmp_path: Path, audio: Path):
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    key = Key.load(tmp_path / "kit" / "key.json")
    text = (tmp_path / "kit" / "listeners" / f"{key.test}.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["testId"] == key.test
    welcome, volume, (order, *trials), finish = config["pages"]
    assert (welcome["type"], volume["type"], order) == ("generic", "volume", "random")
    assert (finish["type"], finish["writeResults"], finish["showResults"]) == (
        "finish",
        True,
        False,
    )
    assert [field["name"] for field in finish["questionnaire"]] == ["listener"]
    assert [page["id"] for page in trials] == list(key.trials)
    for page in trials:
        stimuli = key.trials[page["id"]].stimuli
        named = {stimuli[code].condition for code in page["stimuli"]}
        assert named == {LOW, MID, *CONDITIONS}, (
            "webMUSHRA adds the hidden reference and must not get it twice"
        )
        assert (page["type"], page["createAnchor35"], page["showConditionNames"]) == (
            "mushra",
            False,
            False,
        )
        for path in [page["reference"], *page["stimuli"].values(), volume["stimulus"]]:
            assert (tmp_path / "kit" / "listeners" / Path(path).relative_to("configs")).is_file()


def test_the_same_call_writes_the_same_bytes_and_the_seed_other_names(tmp_path: Path, audio: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_kit(make_results(), audio, tmp_path / name, CONDITIONS, seed)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    codes = [set(Key.load(tmp_path / name / "key.json").trials["trial01"].stimuli) for name in "ac"]
    assert not codes[0] & codes[1]


def test_conditions_must_make_a_test(
    tmp_path: Path, audio: Path, subtests: pytest.Subtests
) -> None:
    for conditions, match in [
        (["unknown"], "codec-q3, codec-q9, other"),
        (["codec-q3", "codec-q3"], "each once"),
        ([], "0 conditions for a listening test, expected 1 to 9"),
    ]:
        with (
            subtests.test(conditions=conditions, match=match),
            pytest.raises(UsageError, match=match),
        ):
            write_kit(make_results(), audio, tmp_path / "kit", conditions)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, audio: Path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"song0/other\.flac"):
        write_kit(make_results(), audio, tmp_path / "kit", ["codec-q3", "other"])
    save(audio, "song2", REFERENCE, noise(12.5))
    with pytest.raises(InputError, match=r"song2: lasts 12\.5 s"):
        write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    save(audio, "song2", REFERENCE, noise(), 44100)
    with pytest.raises(InputError, match="at 44100 Hz"):
        write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, audio: Path):
    (tmp_path / "kit").mkdir()
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    before = tree(tmp_path / "kit")
    with pytest.raises(OutputError, match="new or empty"):
        write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS, seed=1)
    assert tree(tmp_path / "kit") == before


@pytest.mark.parametrize("hertz", [3500, 7000])
def test_the_anchors_meet_the_mask_and_come_in_time(hertz: int):
    impulse = np.zeros((2, 4001), dtype=np.float32)
    impulse[:, 2000] = 1
    out = low_pass(impulse, hertz)
    assert out.shape == impulse.shape
    assert np.argmax(out[1]) == 2000
    levels = 20 * np.log10(np.abs(np.fft.rfft(out[1], RATE)) + 1e-12)  # a bin per Hz
    assert np.abs(levels[:hertz]).max() < 0.1
    assert levels[hertz + 500 :].max() < -25
    assert levels[hertz + 1000 :].max() < -50


def make_key(folder: Path, trials: int = 6) -> Path:
    stimuli = [REFERENCE, LOW, MID, "x"]
    entries = {
        f"trial{t:02d}": Trial(
            f"song{t}", {f"code{t}{n}": Stimulus(n, -23.0, 0.0) for n in stimuli}
        )
        for t in range(trials)
    }
    path = folder / "key.json"
    path.write_text(Key("test-1", 0, {n: f"label of {n}" for n in stimuli}, entries).to_json())
    return path


def answers(
    folder: Path,
    listeners: dict[str, Callable[[str, int], float]],
    trials: int = 6,
    *,
    turned: bool = False,
) -> Path:
    """mushra.csv as webMUSHRA's write.php makes it, the reference under its own name; `turned`:
    columns in reverse.
    """
    columns = ["session_test_id", "listener", "age", "trial_id", "rating_stimulus", "rating_score"]
    columns = [*columns, "rating_time", "rating_comment"]
    path = folder / "mushra.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns[::-1] if turned else columns)
        for who, score in listeners.items():
            for t in range(trials):
                for n in (MID, REFERENCE, "x", LOW):
                    code = REFERENCE if n == REFERENCE else f"code{t}{n}"
                    row = [
                        "test-1",
                        who,
                        "30",
                        f"trial{t:02d}",
                        code,
                        score(n, t),
                        str(1000 + t),
                        "",
                    ]
                    writer.writerow(row[::-1] if turned else row)
    return path


def steady(x: float, reference: float = 100, mid: float = 50) -> Callable[[str, int], float]:
    """A listener who always gives the same."""
    return lambda name, _: {REFERENCE: reference, MID: mid, LOW: 20.0, "x": x}[name]


@pytest.mark.parametrize("turned", [False, True])
def test_scores_are_means_over_listeners_with_their_interval(tmp_path: Path, turned: bool):
    listeners = {
        "Ann": steady(60),
        "Bob": lambda n, t: 65.0 + 2 * t if n == "x" else steady(0)(n, t),
        "Cy": steady(80),
    }
    scores = score_kit(make_key(tmp_path), answers(tmp_path, listeners, turned=turned))
    x = scores.conditions["x"]  # of 60, 70, 80: t(0.975, 2) = 4.30265, deviation 10, root of 3
    assert (x.mean, x.n) == (70, 3)
    assert x.high - 70 == pytest.approx(70 - x.low) == pytest.approx(24.841, abs=1e-3)
    assert (scores.conditions[REFERENCE].mean, scores.conditions[LOW].mean) == (100, 20)
    assert scores.by_item["x", "song5"].mean == pytest.approx((60 + 75 + 80) / 3)
    assert (scores.kept, scores.dropped) == (["30, Ann", "30, Bob", "30, Cy"], {})
    lines = scores.table().splitlines()
    assert lines[0].startswith("3 listeners kept, 0 left out")
    assert lines[1] == f"label of {REFERENCE}  100.0 [100.0, 100.0]"
    assert lines[2] == f"label of x{'':8}  70.0 [45.2, 94.8]"


@pytest.mark.parametrize(
    ("deaf", "why"),
    [
        (
            lambda n, t: 89.0 if n == REFERENCE and t < 4 else steady(0)(n, t),
            "the hidden reference below 90 in 4 of 20",
        ),
        (
            lambda n, t: 91.0 if n == MID and t < 4 else steady(0)(n, t),
            "the 7 kHz anchor above 90 in 4 of 20",
        ),
    ],
)
def test_post_screening_drops_above_15_percent_of_trials_and_not_at_it(
    tmp_path: Path, deaf, why: str
):
    almost = {REFERENCE: 89.0, MID: 91.0}
    listeners = {
        "deaf": deaf,
        "at 15 %": lambda n, t: almost[n] if n in almost and t < 3 else steady(40)(n, t),
        "at 90": steady(60, reference=90, mid=90),
    }
    scores = score_kit(make_key(tmp_path, 20), answers(tmp_path, listeners, 20))
    assert scores.kept == ["30, at 15 %", "30, at 90"]
    assert scores.dropped == {"30, deaf": f"{why} trials"}
    assert scores.conditions["x"].mean == 50
    assert f"left out: 30, deaf: {why}" in scores.table()


def test_one_listener_has_no_interval(tmp_path: Path):
    scores = score_kit(make_key(tmp_path), answers(tmp_path, {"Ann": steady(60)}))
    assert not scores.conditions["x"].bounded
    assert "label of x          60.0\n" in scores.table()


def test_without_listeners_there_are_no_scores(tmp_path: Path):
    key = make_key(tmp_path)
    with pytest.raises(InputError, match="no listeners"):
        score_kit(key, answers(tmp_path, {}))
    with pytest.raises(
        InputError, match=r"none of 1 listeners .*hidden reference below 90 in 6 of 6"
    ):
        score_kit(key, answers(tmp_path, {"Ann": steady(60, reference=10)}))
    with pytest.raises(InputError, match="cannot be read"):
        score_kit(key, tmp_path / "missing.csv")


def test_answers_must_fit_the_key(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for old, new, match in [
        ("test-1,Ann", "test-2,Ann", "test 'test-2', expected 'test-1'"),
        ("trial02,reference", "trial99,reference", "trial 'trial99'"),
        ("code3x", "code4x", "'code4x' is not in the key"),
        (",60,", ",600,", "from 0 to 100"),
        (",60,", ",nan,", "from 0 to 100"),
        (",60,", ",,", "from 0 to 100"),
        ("rating_score", "score", "no column rating_score"),
        ("trial02,code2x", "trial02,code2anchor35", "has rated trial02 before"),
        ("1005,", "1005,,,", "more fields than columns"),
    ]:
        with subtests.test(old=old, new=new, match=match):
            path = answers(tmp_path, {"Ann": steady(60)})
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new, 1))
            with pytest.raises(InputError, match=match):
                score_kit(make_key(tmp_path), path)


def test_a_signal_without_a_score_is_named(tmp_path: Path):
    path = answers(tmp_path, {"Ann": steady(60)})
    path.write_text("".join(line for line in path.open() if "code4x" not in line))
    with pytest.raises(InputError, match="has not rated x in trial04"):
        score_kit(make_key(tmp_path), path)


def test_only_a_key_is_a_key(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for text in ["", "{}", '{"format": "ravecodec-evaluation", "version": 1}', "[1]"]:
        with subtests.test(text=text):
            (tmp_path / "key.json").write_text(text)
            with pytest.raises(FormatError):
                score_kit(tmp_path / "key.json", answers(tmp_path, {"Ann": steady(60)}))


def test_answers_to_a_written_kit_are_scored(tmp_path: Path, audio: Path):
    """From the kit's own config to a table, as webMUSHRA would answer it."""
    write_kit(make_results(), audio, tmp_path / "kit", CONDITIONS)
    key = Key.load(tmp_path / "kit" / "key.json")
    config = yaml.safe_load((tmp_path / "kit" / "listeners" / f"{key.test}.yaml").read_text())
    given = {REFERENCE: 97, LOW: 15, MID: 45, "codec-q3": 55, "codec-q9": 75}
    with (tmp_path / "mushra.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "session_test_id",
                "listener",
                "trial_id",
                "rating_stimulus",
                "rating_score",
                "rating_time",
            ]
        )
        for who in ("1", "2"):
            for page in config["pages"][2][1:]:
                for code in [*page["stimuli"], REFERENCE]:
                    condition = (
                        key.trials[page["id"]].stimuli[code].condition
                        if code != REFERENCE
                        else REFERENCE
                    )
                    writer.writerow([config["testId"], who, page["id"], code, given[condition], 9])
    scores = score_kit(tmp_path / "kit" / "key.json", tmp_path / "mushra.csv")
    assert {name: interval.mean for name, interval in scores.conditions.items()} == given
    assert scores.labels["codec-q9"] == "Codec q9"
