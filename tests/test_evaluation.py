"""`evaluate` and its parts: every condition on tiny models, in processes, resumed; the command
line's errors.
"""

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from ravecodec import decode, encode, zoo
from ravecodec.audio import Audio
from ravecodec.bitstream import StaticModel, StreamReader
from ravecodec.cli import main
from ravecodec.errors import RavecodecError, UsageError
from ravecodec.evaluate import anchors, evaluation, folder, runner, speed
from ravecodec.evaluate.conditions import (
    ANCHORS,
    FIDELITIES,
    GENERATIONS,
    LADDER,
    anchor_conditions,
    apply,
    model_conditions,
    static_bytes,
)
from ravecodec.evaluate.evaluation import Request, evaluate, folder_above, without_folders
from ravecodec.evaluate.filters import RATE
from ravecodec.evaluate.measures.scores import score
from ravecodec.evaluate.page import report
from ravecodec.evaluate.results import Condition, Item, Results, Score, Speed
from ravecodec.evaluate.runner import Task, run_all, write_references
from ravecodec.evaluate.sounds import read_sound, write_sound
from ravecodec.models.coding import Prediction
from ravecodec.models.package import Model

torch.set_num_threads(1)

PERCEPTUAL = ("visqol", "zimtohrli")


def sound(
    music: Callable[..., Audio], seconds: float = 1.5, channels: int = 2, seed: int = 0
) -> Audio:
    audio = music(round(seconds * RATE), channels, RATE, seed)
    return (np.rint(audio * 32768) / 32768).astype(np.float32)


# ---- conditions ----------------------------------------------------------------------------------


def test_bytes_with_static_tables_are_those_of_the_model_without_its_predictor(
    stereo_model: Model, music: Callable[..., Audio]
) -> None:
    """With metadata, a lead-in and silence in it."""
    audio = sound(music, 4.0)
    audio[:, RATE : 3 * RATE] = 0
    weights = np.tile(np.array([[2600, -300]], np.int16), (16, 1))
    prediction = Prediction(weights, stereo_model.coding.shapes, stereo_model.coding.scales)
    coding = dataclasses.replace(stereo_model.coding, prediction=prediction)
    predicting = dataclasses.replace(stereo_model, coding=coding)
    meta = {"tags": {"title": "x"}}
    data, plain = (encode(audio, RATE, m, meta=meta) for m in (predicting, stereo_model))
    assert data != plain and StreamReader(io.BytesIO(data)).info.minor == 1
    assert static_bytes(data, predicting) == len(plain)
    assert static_bytes(plain, stereo_model) is None


def test_a_model_has_a_ladder_fidelities_and_bounds(stereo_model: Model) -> None:
    found = list(model_conditions("default", stereo_model, None, None))
    own = stereo_model.coding.dims, stereo_model.coding.step_index
    ladder = [c for c in found if c.series == "default"]
    assert [c.settings["step_index"] for c in ladder] == [
        own[1] + offset for offset in sorted(LADDER, reverse=True)
    ]
    assert [c.settings["default"] for c in ladder].count(True) == 1
    by_fidelity = [c for c in found if c.series == "default by fidelity"]
    assert [c.settings["dims"] for c in by_fidelity] == [
        stereo_model.latent.dims_for(f) for f in FIDELITIES
    ]
    assert [c.kind for c in found[-4:]] == ["bound", "bound", "again", "again"]
    assert [c.settings["passes"] for c in found[-2:]] == list(GENERATIONS)
    assert len({c.id for c in found}) == len(found)


def test_a_grid_of_fidelities_and_steps_is_a_curve_for_each(stereo_model: Model) -> None:
    found = [
        c for c in model_conditions("m", stereo_model, (0, 8), (0.5, 0.9)) if c.kind == "model"
    ]
    assert [(c.series, c.settings["step_index"]) for c in found] == [
        ("m f=0.5", 8), ("m f=0.5", 0), ("m f=0.9", 8), ("m f=0.9", 0)
    ]  # fmt: skip


def test_anchors_are_chosen_by_name_and_controls_are_always_there() -> None:
    found = list(anchor_conditions(ANCHORS))
    assert len({c.id for c in found}) == len(found)
    assert {"opus", "mp3", "identity", "noise-vocoded", "another-excerpt", "lowpass-3.5k"} <= {
        c.series for c in found
    }
    assert [c.id for c in anchor_conditions([])] == ["identity", "noise-vocoded", "another-excerpt"]
    with pytest.raises(UsageError, match=r"anchor 'wax'; expected some of opus"):
        list(anchor_conditions(["opus", "wax"]))


def test_every_anchor_gives_back_audio_of_the_same_shape(
    music: Callable[..., Audio], subtests: pytest.Subtests
) -> None:
    for condition in list(anchor_conditions(ANCHORS)):
        with subtests.test(condition=condition):
            audio, other = sound(music), sound(music, 1.0, 1, seed=3)
            if condition.settings["do"] == "av":
                pytest.importorskip("av")
            done = apply(condition.settings, audio, other, {})
            assert (
                done.audio.shape == audio.shape
                and done.audio.dtype == np.float32
                and np.isfinite(done.audio).all()
            )
            if condition.kind == "codec":
                assert (
                    done.bytes is not None
                    and done.payload is not None
                    and 0 < done.payload <= done.bytes
                )
                kbps, nominal = done.payload * 8 / 1000 / 1.5, condition.settings["kbps"]
                assert 0.3 * nominal < kbps < 1.5 * nominal
                values, delay = score(audio, done.audio, RATE, skip=PERCEPTUAL)
                assert abs(delay) <= 8 and values["si_sdr"] > 0  # in time with the original
            else:
                assert done.bytes is None
            assert np.array_equal(done.audio, audio) == (condition.id == "identity")


def test_noise_vocoding_keeps_the_envelope_and_no_tone(music: Callable[..., Audio]) -> None:
    audio = sound(music, 3.0)
    values, _ = score(audio, anchors.noise_vocoded(audio).audio, RATE, skip=PERCEPTUAL)
    assert values["peak_f1"] < 0.1 and values["log_mel"] < 8 and abs(values["loudness_error"]) < 1


@pytest.mark.parametrize("kbps", [2, 700])
def test_rates_that_opus_does_not_have_are_refused(kbps: int) -> None:
    with pytest.raises(UsageError, match="Opus at"):
        anchors.opus(np.zeros((1, RATE), np.float32), kbps)
    with pytest.raises(UsageError, match="8 to 320"):
        anchors.mp3(np.zeros((1, RATE), np.float32), kbps)


def test_a_model_point_is_a_real_stream(
    stereo_model: Model, model_folder: Path, music: Callable[..., Audio]
) -> None:
    audio = sound(music)
    packages = {stereo_model.id.hex(): model_folder / "default.safetensors"}
    points = [
        c
        for c in model_conditions("default", stereo_model, (-8, 16), None)
        if c.series == "default"
    ]
    coarse, fine = (apply(c.settings, audio, audio, packages) for c in points)
    assert coarse.audio.shape == audio.shape
    assert coarse.bytes is not None and fine.bytes is not None and coarse.bytes < fine.bytes
    assert 0 < coarse.payload < coarse.bytes  # type: ignore[operator]


def test_bounds_are_the_model_without_its_quantiser(
    stereo_model: Model, model_folder: Path, music: Callable[..., Audio]
) -> None:
    """A very fine step comes as near to the cropped bound as one likes; the whole bound is another
    sound.
    """
    audio = sound(music)
    packages = {stereo_model.id.hex(): model_folder / "default.safetensors"}
    found = list(model_conditions("default", stereo_model, (-64, 0), None))
    whole, cropped = (apply(c.settings, audio, audio, packages) for c in found if c.kind == "bound")
    coarse, fine = (apply(c.settings, audio, audio, packages) for c in found[:2])
    near, far = (np.abs(x.audio - cropped.audio).max() for x in (fine, coarse))
    assert near < 0.05 * far and whole.bytes is cropped.bytes is None
    assert np.abs(whole.audio - cropped.audio).max() > near


def test_efforts_are_curves_of_their_own(stereo_model: Model) -> None:
    own = stereo_model.coding.effort
    found = [
        c
        for c in model_conditions("m", stereo_model, (0, 8), None, (own, own + 1))
        if c.kind == "model"
    ]
    curves = [(c.series, c.settings["effort"]) for c in found if "fidelity" not in c.series]
    assert curves == [("m", own)] * 2 + [(f"m, effort {own + 1}", own + 1)] * 2
    assert len({c.id for c in found}) == len(found)
    with pytest.raises(UsageError, match="effort is 9"):
        list(model_conditions("m", stereo_model, efforts=(9,)))


def test_several_times_through_the_codec(
    stereo_model: Model, model_folder: Path, music: Callable[..., Audio]
) -> None:
    """The oracle calls encode and decode in turn, and compares what is in the streams."""
    audio, rate = sound(music), 48_000
    packages = {stereo_model.id.hex(): model_folder / "default.safetensors"}
    condition = next(
        c for c in model_conditions("m", stereo_model) if c.settings.get("passes") == 3
    )
    found = apply(condition.settings, audio, audio, packages)
    streams, passed = [], audio
    for _ in range(3):
        streams.append(encode(passed, rate, stereo_model))
        passed = decode(streams[-1], stereo_model)[0]
    assert np.array_equal(found.audio, passed)
    assert found.bytes == len(streams[-1])
    static = StaticModel(stereo_model.coding.shapes, stereo_model.coding.scales)
    sent = []
    for stream in (streams[0], streams[-1]):
        reader = StreamReader(io.BytesIO(stream))
        sent.append(
            np.concatenate([reader.decode_chunk(chunk, static) for chunk in reader.chunks()])
        )
    assert found.kept == (sent[0] == sent[1]).mean()
    assert 0 < found.kept < 1


# ---- runs ----------------------------------------------------------------------------------------


def tasks(out: Path, music: Callable[..., Audio]) -> list[Task]:
    """Two items and two conditions that cost nothing."""
    sounds = [sound(music, 1.0, seed=seed) for seed in (1, 2)]
    items = [Item(f"i{n}", f"{n}.wav", 0.0, 1.0, f"{n}" * 64, 2, RATE) for n in range(2)]
    write_references(out, list(zip(items, sounds, strict=True)))
    kinds = [Condition("identity", "identity", "control", "", {"do": "identity"})]
    kinds.append(
        Condition("opus-12", "opus", "codec", "", {"do": "opus", "channels": 1, "kbps": 12})
    )
    return [Task(i, items[1 - n], c, False, {}, out) for c in kinds for n, i in enumerate(items)]


def test_runs_go_on_where_they_stopped(
    tmp_path: Path, music: Callable[..., Audio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two processes; called again, nothing is computed; what is missing is made anew and is the
    same.
    """
    wanted, heard = tasks(tmp_path, music), []
    first = run_all(wanted, 2, lambda done, total: heard.append((done, total)))
    assert heard[0] == (0, 4) and heard[-1] == (4, 4)
    assert [(s.item, s.condition) for s in first] == [(t.item.id, t.condition.id) for t in wanted]
    assert first[0].values["peak_f1"] == 1 and first[0].bytes is None and first[2].bytes is not None
    assert not list(tmp_path.rglob("*.part"))
    assert np.array_equal(
        read_sound(wanted[0].sound), read_sound(tmp_path / "audio" / "i0" / "reference.flac")
    )

    wanted[2].sound.unlink()
    wanted[3].record.unlink()
    assert run_all(wanted, 1, lambda done, total: None) == first

    def never(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(runner, "apply", never)
    monkeypatch.setattr(runner, "run_tasks", never)
    assert run_all(wanted, 1, lambda done, total: None) == first


def test_a_score_is_kept_for_what_it_is_of(tmp_path: Path, music: Callable[..., Audio]) -> None:
    first, second, other = (t.key for t in tasks(tmp_path, music)[:3])
    assert len({first, second, other}) == 3
    task = tasks(tmp_path, music)[2]
    changed = dataclasses.replace(task.condition, settings={**task.condition.settings, "kbps": 16})
    assert dataclasses.replace(task, condition=changed).key != task.key
    assert dataclasses.replace(task, speech=True).key != task.key
    renamed = dataclasses.replace(task.condition, id="other", label="other")
    assert dataclasses.replace(task, condition=renamed).key == task.key


def test_an_evaluation_has_everything(
    tmp_path: Path,
    model_folder: Path,
    music: Callable[..., Audio],
    small_blocks: Callable[[int], None],
) -> None:
    small_blocks(1 << 16)
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(2):
        soundfile.write(folder / f"{seed}.wav", music(3 * RATE, 2, RATE, seed).T, RATE)
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    entry, said = zoo.read_entry(model_folder / "default.safetensors"), []
    request = Request(
        (folder,),
        (entry,),
        tmp_path / "out",
        ("opus",),
        steps=(0,),
        items=2,
        seconds=1.0,
        speed=False,
        jobs=1,
    )
    results = evaluate(request, lambda done, total: None, said.append)
    assert len(said) == 1 and "broken.wav" in said[0]
    assert results.unreadable == [said[0].removeprefix(f"left out: {tmp_path}/")]
    assert len(results.items) == 2 and len(results.scores) == 2 * len(results.conditions)
    assert (
        results.kbps("opus-6", payload=True) == pytest.approx(6, abs=2)
        and results.kbps("identity") is None
    )
    assert set(results.values("identity", "peak_f1").values()) == {1.0}
    assert (
        results.models["default"]["id"] == entry.id.hex()
        and results.models["default"]["bytes"] == entry.size
    )
    assert (
        len(results.fidelity[0].singular) == entry.config.latent
        and results.fidelity[0].singular[-1] == 1
    )
    assert results.manifest["seed"] == 0 and results.manifest["packages"]["numpy"] == np.__version__
    assert Results.from_json(results.to_json()) == results


# ---- command line --------------------------------------------------------------------------------


def test_bad_calls_say_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    for name in ("music", "empty", "full"):
        Path(name).mkdir()
    soundfile.write("music/x.wav", np.zeros((RATE * 2, 1)), RATE)
    Path("full/precious.txt").write_text("mine")
    Path("notes.txt").write_text("no JSON")
    for arguments, code, sentence in [
        ([], 2, "expected AUDIO"),
        (["music"], 2, "expected --out"),
        (["music", "--out", "x", "--anchors", "wax"], 2, "anchor 'wax'"),
        (["music", "--out", "x", "--steps", "1,two"], 2, "expected numbers"),
        (["missing", "--out", "x"], 3, "no such file"),
        (["empty", "--out", "x"], 3, "no audio to evaluate on"),
        (["music", "--out", "full"], 8, "is there and no report"),
        (["music", "--out", "x", "--model", "nobody"], 7, "nobody"),
        (["music", "--out", "x", "--mushra", "full"], 8, "exists already"),
        (["music", "--out", "x", "--mushra", "kit", "--seconds", "15"], 2, "at most 12"),
        (["--plot", "notes.txt", "--out", "x"], 4, "notes.txt"),
    ]:
        with subtests.test(arguments=arguments, code=code, sentence=sentence):
            shutil.rmtree("x", ignore_errors=True)  # the mark of a call that had begun
            done = CliRunner().invoke(main, ["eval", *arguments])
            assert done.exit_code == code and sentence in done.stderr, done.stderr
            assert done.stderr.strip().splitlines()[-1].startswith("ravecodec: error: ")
            assert (
                Path("full/precious.txt").read_text() == "mine"
                and not Path("x/index.html").exists()
            )


def test_a_missing_extra_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    from ravecodec.cli import evaluating

    monkeypatch.setattr(evaluating, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["eval", "music", "--out", "x"])
    assert done.exit_code == 2 and "pip install 'ravecodec[eval]'" in done.stderr


def test_speed_is_measured_on_a_long_sound_and_on_one_as_long_as_starting_takes(
    music: Callable[..., Audio], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def run(what: str, model: Path, threads: int, source: Path, target: Path) -> tuple[float, int]:
        seconds = soundfile.info(source).duration if what == "encode" else None
        heard.append((what, model.name, threads, source.name, target.name, seconds))
        long = source.stem == "long"
        return (5.0 if long else 1.0) + threads, 900 if long else 100

    monkeypatch.setattr(speed, "_run", run)
    path = Path("default.safetensors")
    rows = list(speed.measure("default", path, [sound(music, 1.0)], [1, 2], seconds=2.0))
    assert rows == [
        Speed(what, "default", threads, 2.0, 5.0 + threads, 1.0 + threads, 900)
        for threads in (1, 2)
        for what in ("encode", "decode")
    ]
    assert heard[:4] == [
        ("encode", "default.safetensors", 1, "short.flac", "short.rvc", speed.SHORT),
        ("encode", "default.safetensors", 1, "long.flac", "long.rvc", 2.0),
        ("decode", "default.safetensors", 1, "short.rvc", "short.wav", None),
        ("decode", "default.safetensors", 1, "long.rvc", "long.wav", None),
    ]
    assert [threads for _, _, threads, *_ in heard] == [1] * 4 + [2] * 4


def test_speed_is_that_of_the_command_and_not_of_who_started_it(
    model_folder: Path, music: Callable[..., Audio], tmp_path: Path
) -> None:
    """With 1.5 GB in this process, no peak may contain them (a CUDA build of torch takes 0.8)."""
    ballast = np.ones(1_500_000_000, np.uint8)
    model, names = model_folder / "default.safetensors", ("x.flac", "x.rvc", "x.wav")
    original, stream, decoded = (tmp_path / name for name in names)
    write_sound(original, sound(music, 1.0))
    for what, pair in (("encode", (original, stream)), ("decode", (stream, decoded))):
        seconds, peak = speed._run(what, model, 1, *pair)
        assert seconds > 0
        assert 50e6 < peak < 1.4e9 < ballast.nbytes
    assert soundfile.info(decoded).frames == RATE


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RavecodecError, match="encode failed"):
        speed._run(
            "encode", tmp_path / "none.safetensors", 1, tmp_path / "a.flac", tmp_path / "a.rvc"
        )


# ---- whose folder it is --------------------------------------------------------------------------


def eval_call(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["eval", *map(str, arguments)])
    return done.exit_code, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def scored(tasks: list[Task], *_: object) -> list[Score]:
    """Scores without work: what is tested here is where results go."""
    return [
        Score(task.item.id, task.condition.id, None, None, 0, {"peak_f1": 0.5}) for task in tasks
    ]


@pytest.fixture
def evaluated(tmp_path: Path, music: Callable[..., Audio], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, the current one, with `music` and the evaluations `one` and `two` of no model."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "run_all", scored)
    monkeypatch.setattr(
        report,
        "write_page",
        lambda results, folder, embed: (folder / "index.html").write_text("page"),
    )
    (tmp_path / "music").mkdir()
    for seed in range(2):
        soundfile.write(tmp_path / "music" / f"{seed}.wav", music(2 * RATE, 2, RATE, seed).T, RATE)
    for name in ("one", "two"):
        assert eval_call(*measured("music", name))[0] == 0
    return tmp_path


def measured(audio: str | Path, out: str | Path) -> list[str]:
    short = ["--items", "1", "--seconds", "1", "--jobs", "1", "--no-speed", "--anchors", "lowpass"]
    return [str(audio), "--out", str(out), *short]


def test_no_call_replaces_what_another_one_or_nobody_made(evaluated: Path) -> None:
    for name, file in (
        ("audio-too", "audio/take.flac"),
        ("site", "index.html"),
        ("mine", "results.json"),
    ):
        path = evaluated / name / file
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    (evaluated / "file").write_text("precious")
    assert eval_call("--plot", "one/results.json", "--out", "page")[0] == 0
    before = contents(evaluated)
    foreign = [
        *(measured("music", name) for name in ("audio-too", "site", "mine", "file", "page")),
        *(
            ["--plot", "one/results.json", "--out", name]
            for name in ("audio-too", "site", "mine", "file", "two")
        ),
    ]
    for arguments in foreign:
        code, sentence = eval_call(*arguments)
        assert code == 8 and "expected a new folder" in sentence, (arguments, sentence)
    for name in ("one", "./one", evaluated / "one"):
        code, sentence = eval_call(
            "--plot", "one/results.json", "two/results.json", "--out", name, "-f"
        )
        assert code == 2 and "is the folder of the input one/results.json" in sentence
    (evaluated / "link").mkdir()
    (evaluated / "link" / "results.json").symlink_to(evaluated / "one" / "results.json")
    assert eval_call("--plot", "one/results.json", "--out", "link", "-f")[0] == 2
    (evaluated / "link" / "results.json").unlink()
    assert contents(evaluated) == before


def test_an_own_folder_is_gone_on_with_and_force_takes_any(evaluated: Path) -> None:
    """Also one of before there were marks."""
    assert eval_call(*measured("music", "one"))[0] == 0
    (evaluated / "one" / "evaluation.json").unlink()
    assert eval_call(*measured("music", "one"))[0] == 0
    for _ in range(2):
        assert eval_call("--plot", "one/results.json", "two/results.json", "--out", "page")[0] == 0
    (evaluated / "site").mkdir()
    (evaluated / "site" / "notes.txt").write_text("precious")
    assert eval_call("--plot", "one/results.json", "--out", "site", "-f")[0] == 0
    assert (evaluated / "site" / "notes.txt").read_text() == "precious"
    assert (evaluated / "site" / "index.html").exists()


def test_a_killed_call_leaves_its_own_folder(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the mark is there yet; its time counts."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "run_all", interrupted)
        assert eval_call(*measured("music", "three"))[0] == 130
    spent = folder._read_mark(evaluated / "three")["seconds"]
    assert spent > 0
    folder.mark(evaluated / "three", folder.MEASURED, 1000.0)
    assert eval_call(*measured("music", "three"))[0] == 0
    assert Results.load(evaluated / "three" / "results.json").manifest["took_seconds"] >= 1000


def test_results_name_no_folder_of_the_machine(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (evaluated / "music" / "broken.wav").write_bytes(b"RIFF nothing")
    call = measured(evaluated / "music", evaluated / "absolute")
    monkeypatch.setattr(
        "sys.argv", ["/usr/bin/ravecodec", "eval", *call, f"--mushra={evaluated}/kit"]
    )
    assert eval_call(*call)[0] == 1
    results = Results.load(evaluated / "absolute" / "results.json")
    assert str(evaluated) not in results.to_json()
    assert results.items[0].source.startswith("music/") and results.unreadable[0].startswith(
        "music/broken.wav: "
    )
    assert results.manifest["command"].startswith("ravecodec eval music --out absolute --items 1")
    assert results.manifest["command"].endswith("--mushra=kit")
    for text in ("items.csv", "results.json"):
        assert str(evaluated) not in (evaluated / "absolute" / text).read_text()


def test_files_of_two_folders_keep_different_names() -> None:
    roots = [Path("/data/a/eval"), Path("/data/b/eval"), Path("near")]
    above = folder_above(roots)
    assert [str(root).removeprefix(above) for root in roots] == ["a/eval", "b/eval", "near"]
    assert folder_above([Path("near")]) == "" and folder_above([Path("/x"), Path("/y/z")]) == "/"
    assert without_folders(["a/b", "/a/b", "--out=/a/b", "-x", "/"]) == [
        "a/b",
        "b",
        "--out=b",
        "-x",
        "/",
    ]


def test_the_meter_takes_commands_that_print() -> None:
    seconds, peak = speed.time_command(["model", "list"])
    assert seconds > 0 and peak > 1e6
