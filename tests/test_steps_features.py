"""Feature and voice activity steps on a data directory: files, counts, parts, refusals; once through the
shell, else in-process.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pydino.base import UserError
from pydino.cli import main, parser_of
from pydino.cli._gathering import gather
from pydino.cli._steps import pending
from pydino.kaldi import read_scp_objects, read_table

ROOT = Path(__file__).parent.parent
WAV = ROOT / "tests" / "fixtures" / "audio" / "wav"
GOOD = ["d1_clean", "d2_noise", "d3_silence", "d4_quiet", "d5_dc"]
CONFIG = "num_mel_bins: 40\ndither: 0.0\n"
VAD = "vad_energy_threshold: 5.5\nvad_frames_context: 2\nvad_proportion_threshold: 0.12\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """An empty recipe folder, with a blank and letters beyond ASCII in its path, as the current folder."""
    folder = tmp_path / "my recipé"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "fbank.yaml").write_text(CONFIG)
    (folder / "conf" / "vad.yaml").write_text(VAD)
    monkeypatch.chdir(folder)
    return folder


def make_data(entries, name="train"):
    """Write a data directory's wav.scp from key -> extended file name."""
    folder = Path("data", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wav.scp").write_text("".join(f"{key} {value}\n" for key, value in sorted(entries.items())))
    return str(folder)


def good():
    return {key: WAV / f"{key}.wav" for key in GOOD}


def compute(data, jobs=1, kind="fbank", config="conf/fbank.yaml", max_drop="0", arks="feats", extra=()):
    """The jobs of steps/make_KIND.sh in this process, then what puts their parts together; returns its exit
    status.
    """
    call = [f"make-{kind}", f"--{kind}-config", config, "--compress", "false", *extra]
    for index in range(1, jobs + 1):
        assert main([*call, "--part", f"{index}/{jobs}", data, "log", arks]) == 0
    return put_together(kind, *call[1:], "--nj", str(jobs), "--max-drop", max_drop, data, "log", arks)


def put_together(kind, *arguments):
    """What a step does when its jobs have ended; returns the exit status."""
    verb = "compute-vad" if kind == "vad" else f"make-{kind}"
    module = importlib.import_module(f"pydino.cli.{verb.replace('-', '_')}")
    try:
        gather(parser_of(verb, module).parse_args(list(arguments)), kind)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def vad(data, jobs=1, arks="vad"):
    for index in range(1, jobs + 1):
        if status := main(["compute-vad", "--part", f"{index}/{jobs}", data, "log", arks]):
            return status
    return put_together("vad", "--nj", str(jobs), data, "log", arks)


def matrices(scp):
    return dict(read_scp_objects(scp))


def test_values_do_not_depend_on_the_number_of_jobs(recipe):
    data = make_data(good())
    assert compute(data, jobs=1) == 0
    one, energy = matrices(f"{data}/feats.scp"), matrices(f"{data}/energy.scp")
    assert compute(data, jobs=3, arks="feats3") == 0
    three = matrices(f"{data}/feats.scp")
    assert list(one) == list(three) == GOOD
    for key in GOOD:
        np.testing.assert_array_equal(one[key], three[key])
        np.testing.assert_array_equal(energy[key], matrices(f"{data}/energy.scp")[key])
        assert len(energy[key]) == len(one[key]) == int(read_table(f"{data}/utt2num_frames")[key])
    assert float(Path(data, "frame_shift").read_text()) == 0.01
    assert float(read_table(f"{data}/utt2dur")["d1_clean"]) == pytest.approx(36837 / 16000)
    assert "num_mel_bins: 40" in Path(data, "conf", "fbank.yaml").read_text()
    # resolved: what the file left unsaid is there
    assert "low_freq: 20.0" in Path(data, "conf", "fbank.yaml").read_text()


def test_dither_does_not_depend_on_jobs_and_follows_the_stored_hash(recipe):
    Path("conf/fbank.yaml").write_text("dither: 100.0\n")
    data, renamed = make_data(good()), make_data({f"x{k}": v for k, v in good().items()}, "renamed")
    hashes = {key: 1000 + i for i, key in enumerate(GOOD)}
    Path(data, "utt2hash").write_text("".join(f"{key} {hashes[key]}\n" for key in GOOD))
    Path(renamed, "utt2hash").write_text("".join(f"x{key} {hashes[key]}\n" for key in GOOD))
    assert compute(data, jobs=2) == 0 and compute(renamed) == 0
    first, second = matrices(f"{data}/feats.scp"), matrices(f"{renamed}/feats.scp")
    for key in GOOD:
        np.testing.assert_array_equal(first[key], second[f"x{key}"])


def test_dropped_utterances_fail_by_default_and_are_named(recipe, capsys):
    bad = {
        "short": WAV / "tiny399.wav",
        "stereo": WAV / "bad_stereo.wav",
        "gone": "nowhere.wav",
        "cut": WAV / "bad_trunc.wav",
    }
    data = make_data({**good(), **bad})
    assert compute(data) == 1
    message = capsys.readouterr().err
    assert (
        "4 of 9 utterances" in message
        and "--max-drop 0.445" in message
        and "log/raw_fbank_train.dropped" in message
    )
    assert not Path(data, "feats.scp").exists()
    dropped = read_table("log/raw_fbank_train.dropped", check_sorted=False)
    assert set(dropped) == set(bad)
    assert (
        "too short for one window" in dropped["short"]
        and "--channel" in dropped["stereo"]
        and "truncated" in dropped["cut"]
    )
    assert compute(data, max_drop="0.445") == 0
    assert list(read_table(f"{data}/feats.scp")) == GOOD


@pytest.mark.parametrize("entries", [{}, {"short": WAV / "tiny1.wav"}])
def test_no_utterance_left_is_an_error_whatever_may_be_dropped(recipe, capsys, entries):
    data = make_data(entries)
    assert compute(data, max_drop="1") == 1
    assert data in capsys.readouterr().err


def test_another_sample_rate_is_refused_or_resampled_with_a_line_that_says_so(recipe, capsys):
    data = make_data({**good(), "d6_8k": WAV / "d6_8k.wav"})
    assert compute(data) == 1
    assert "8000 Hz" in (message := capsys.readouterr().err) and "allow_upsample" in message
    Path("conf/fbank.yaml").write_text(CONFIG + "allow_upsample: true\n")
    assert compute(data, jobs=2) == 0
    assert "1 of 6 recordings resampled from 8000 to 16000 Hz" in capsys.readouterr().err
    assert len(matrices(f"{data}/feats.scp")["d6_8k"]) == 238


def test_segments_are_cut_from_their_recordings(recipe):
    data = make_data({"rec": WAV / "d1_clean.wav", "unused": "nowhere.wav"})
    Path(data, "segments").write_text("a rec 0.50 1.50\nb rec 1.00 2.00\n")
    assert compute(data) == 0
    with wave.open(str(WAV / "d1_clean.wav")) as whole:
        samples = np.frombuffer(whole.readframes(whole.getnframes()), dtype="<i2")
    soundfile.write("cut.wav", samples[8000:24000], 16000)
    alone = make_data({"a": "cut.wav"}, "alone")
    assert compute(alone) == 0
    np.testing.assert_array_equal(matrices(f"{data}/feats.scp")["a"], matrices(f"{alone}/feats.scp")["a"])
    assert float(read_table(f"{data}/utt2dur")["b"]) == 1.0


@pytest.mark.parametrize(
    "line, words",
    [
        ("a rec 1.0", "start end"),
        ("a other 0 1", "other"),
        *(
            (f"a rec {times}", f"'a rec {times}' is not")
            for times in ("1.0 nan", "nan 1.0", "0 inf", "-inf 1", "0 1 0")
        ),
    ],
)
def test_malformed_segments(recipe, capsys, line, words):
    data = make_data({"rec": WAV / "d1_clean.wav"})
    Path(data, "segments").write_text(line + "\n")
    assert main(["make-fbank", "--part", "1/1", data, "log", "feats"]) == 1
    assert "segments" in (message := capsys.readouterr().err) and words in message
    assert "Traceback" not in message


@pytest.mark.parametrize("times", ["1.0 1.0", "1.5 1.0", "-0.5 1.0", "1.0 -2", "900 901"])
def test_segments_without_samples_are_dropped_by_their_line(recipe, times):
    data = make_data({"rec": WAV / "d1_clean.wav"})
    Path(data, "segments").write_text(f"a rec 0.5 1.5\nb rec {times}\nc rec 1.0 -1\n")
    assert main(["make-fbank", "--part", "1/1", data, "log", "feats"]) == 0
    report = json.loads(Path("log/raw_fbank_train.1.json").read_text())
    assert sorted(report["frames"]) == ["a", "c"]
    start, end = map(float, times.split())
    message = report["dropped"]["b"]
    assert "b in segments" in message and f"segment from {start} to {end} s" in message


def test_pipes_need_permission(recipe, capsys):
    data = make_data({"a": f"cat '{WAV / 'd1_clean.wav'}' |"})
    assert compute(data) == 1
    assert "--allow-pipes true" in capsys.readouterr().err
    assert compute(data, extra=["--allow-pipes", "true"]) == 0


def test_vad_reads_the_energy_and_equals_kaldi(recipe):
    kaldi = np.load(ROOT / "tests" / "fixtures" / "audio" / "kaldi.npz")
    data = make_data(good())
    assert compute(data) == 0 and vad(data) == 0
    for key, decisions in matrices(f"{data}/vad.scp").items():
        assert decisions.dtype == np.float32
        np.testing.assert_array_equal(decisions, kaldi[f"vad/fbank_vox/{key}"])
    assert "vad_energy_mean_scale: 0.5" in Path(data, "conf", "vad.yaml").read_text()


@pytest.mark.parametrize(
    "kind, options, readable",
    [
        ("fbank", "use_energy: false", False),
        ("fbank", "use_energy: true", True),
        ("mfcc", "htk_compat: true", True),
        ("mfcc", "use_energy: false", False),
    ],
)
def test_vad_never_takes_a_mel_filter_for_the_energy(recipe, capsys, kind, options, readable):
    Path("conf/fbank.yaml").write_text(f"dither: 0.0\n{options}\n")
    data = make_data(good())
    assert compute(data, kind=kind) == 0 and vad(data) == 0
    right = matrices(f"{data}/vad.scp")
    Path(data, "energy.scp").unlink()
    if readable:
        assert vad(data) == 0
        for key, decisions in matrices(f"{data}/vad.scp").items():
            np.testing.assert_array_equal(decisions, right[key])
    else:
        assert vad(data) == 1
        assert (
            "energy.scp is not there" in (message := capsys.readouterr().err) and "make_fbank.sh" in message
        )


@pytest.mark.parametrize("archive", ["raw_fbank_train.2.ark", "energy_fbank_train.2.ark", "vad_train.2.ark"])
@pytest.mark.parametrize(
    "spoil",
    [lambda path: os.truncate(path, os.path.getsize(path) - 9), os.remove, lambda path: os.truncate(path, 0)],
)
def test_an_archive_that_is_not_what_its_job_wrote_is_not_taken(recipe, capsys, archive, spoil):
    data = make_data(good())
    kind, table = ("vad", "vad.scp") if archive.startswith("vad") else ("fbank", "feats.scp")
    assert compute(data, jobs=2) == 0
    if kind == "vad":
        assert vad(data, jobs=2, arks="feats") == 0
    Path(data, table).unlink(missing_ok=True)
    spoil(f"feats/{archive}")
    assert put_together(kind, "--nj", "2", data, "log", "feats") == 1 and not Path(data, table).exists()
    said = capsys.readouterr().err
    assert (
        f"part 2, feats/{archive}, is not what its job wrote" in said
        and "run the step again, which makes all parts" in said
    )


def run_step(step, *arguments, **environment):
    return subprocess.run(
        [ROOT / "steps" / step, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_steps_write_what_kaldi_users_expect_and_do_nothing_twice(recipe):
    data = make_data(good())
    done = run_step("make_fbank.sh", "--nj", "2", data, "exp/make_fbank/train", "feats")
    assert done.returncode == 0, done.stderr
    assert "5 utterances in, 5 out, 0 dropped" in done.stderr and "Traceback" not in done.stderr
    for name in (
        "feats/raw_fbank_train.1.ark",
        "feats/raw_fbank_train.2.scp",
        "exp/make_fbank/train/make_fbank_train.1.log",
    ):
        assert Path(name).exists(), name
    assert len(matrices(f"{data}/feats.scp")["d1_clean"]) == 228
    before = os.stat("feats/raw_fbank_train.1.ark").st_mtime_ns
    again = run_step("make_fbank.sh", "--nj", "1", data, "exp/make_fbank/train", "feats")
    assert "up to date" in again.stderr and os.stat("feats/raw_fbank_train.1.ark").st_mtime_ns == before
    voiced = run_step("compute_vad.sh", "--nj", "2", data, "exp/make_vad/train", "feats")
    assert voiced.returncode == 0, voiced.stderr
    assert (
        Path("feats/vad_train.2.ark").exists()
        and "up to date" in run_step("compute_vad.sh", data, "exp/v", "feats").stderr
    )


def reason(words: list[str]) -> str:
    """Return the first reason why a step has to run; an empty string if it is up to date."""
    return next(iter(pending(words).values()), "")


def test_segments_that_appear_later_make_the_step_run_and_so_does_what_reads_its_features(recipe):
    data = make_data(good())
    for _ in range(2):
        done = [run_step("make_fbank.sh", "--nj", "1", data, "log", "feats")]
        done += [run_step("compute_vad.sh", "--nj", "1", data, "log", "feats")]
        assert [step.returncode for step in done] == [0, 0], done[0].stderr + done[1].stderr
    assert all("is up to date" in step.stderr for step in done)
    Path(data, "segments").write_text("a d1_clean 0.50 1.50\n")
    assert reason(["steps/make_fbank.sh", data, "log", "feats"]) == "data/train/segments is new"
    assert reason(["steps/compute_vad.sh", data, "log", "feats"]) == ""  # of what is there now
    done = run_step("make_fbank.sh", "--nj", "1", data, "log", "feats")
    assert done.returncode == 0 and list(read_table(f"{data}/feats.scp")) == ["a"], done.stderr
    assert "changed" in reason(["steps/compute_vad.sh", data, "log", "feats"])


def test_an_archive_that_was_cut_short_or_lost_is_made_again(recipe):
    data = make_data(good())
    whole = {}
    for spoil in (lambda path: os.truncate(path, os.path.getsize(path) // 2), os.remove):
        for step, ark in [
            ("make_fbank.sh", "raw_fbank_train.1.ark"),
            ("make_fbank.sh", "energy_fbank_train.1.ark"),
            ("compute_vad.sh", "vad_train.1.ark"),
        ]:
            assert run_step(step, "--nj", "1", data, "log", "feats").returncode == 0
            before = whole.setdefault(ark, Path("feats", ark).read_bytes())
            spoil(f"feats/{ark}")
            again = run_step(step, "--nj", "1", data, "log", "feats")
            assert again.returncode == 0 and ark in again.stderr and "is to be redone" in again.stderr, (
                again.stderr
            )
            assert Path("feats", ark).read_bytes() == before


def test_a_redo_that_fails_leaves_nothing_that_points_into_its_archives(recipe):
    data = make_data(good())
    assert run_step("make_fbank.sh", "--nj", "1", data, "log", "feats").returncode == 0
    make_data({**good(), "e": "nowhere.wav"})
    failed = run_step("make_fbank.sh", "--nj", "1", data, "log", "feats")
    assert failed.returncode == 1 and "1 of 6 utterances" in failed.stderr
    assert not Path(data, "feats.scp").exists() and not Path(data, "energy.scp").exists()


@pytest.mark.parametrize(
    "speakers, said",
    [
        ("d1_clean s\nd2_noise s\n", "3 of 5 utterances have no speaker, first: d3_silence"),
        ("d2_noise s\nd1_clean s\n", "not in sorted order"),
        ("d1_clean s\nd1_clean s\n", "occurs twice"),
    ],
)
def test_an_utterance_needs_its_speaker_where_speakers_are_known(recipe, capsys, speakers, said):
    data = make_data(good())
    Path(data, "utt2spk").write_text(speakers)
    assert main(["make-fbank", "--part", "1/1", data, "log", "feats"]) == 1
    assert said in capsys.readouterr().err and not list(Path().glob("feats/*"))


def test_a_step_names_the_missing_configuration_and_the_misspelt_option(recipe):
    data = make_data(good())
    missing = run_step("make_mfcc.sh", data)
    assert missing.returncode == 1 and "conf/mfcc.yaml" in missing.stderr
    misspelt = run_step("make_fbank.sh", "--fbank-confg", "x", data)
    assert misspelt.returncode == 1 and "--fbank-config" in misspelt.stderr
    Path("conf/fbank.yaml").write_text("num_mel_bin: 40\n")
    unknown = run_step("make_fbank.sh", data, "log", "feats")
    assert unknown.returncode == 1 and "num_mel_bins" in unknown.stderr + unknown.stdout


def test_reports_are_json(recipe):
    data = make_data(good())
    assert compute(data) == 0
    report = json.loads(Path("log/raw_fbank_train.1.json").read_text())
    assert report["utterances"] == 5 and report["dropped"] == {} and sum(report["frames"].values()) == 1036


def step(*arguments, **variables):
    command = [
        ROOT / "steps/make_fbank.sh",
        "--nj",
        "2",
        "--compress",
        "false",
        "--fbank-config",
        "conf/fbank.yaml",
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **variables}
    )


def test_a_rerun_after_a_failure_does_the_missing_job_only(recipe):
    data = make_data(good())
    blocked = Path("feats/raw_fbank_train.2.ark")
    blocked.mkdir(parents=True)
    done = step(data, "log", "feats")
    assert done.returncode != 0 and "failed jobs: 2\n" in done.stderr
    first = Path("log/make_fbank_train.1.log").stat().st_mtime_ns
    blocked.rmdir()
    done = step(data, "log", "feats")
    assert done.returncode == 0 and "1 of 2 jobs are done by an earlier run" in done.stderr, done.stderr
    assert (
        Path("log/make_fbank_train.1.log").stat().st_mtime_ns == first
        and list(matrices(f"{data}/feats.scp")) == GOOD
    )


def test_a_part_that_was_lost_between_two_runs_fails_the_first_rerun_and_is_mended_by_the_next(recipe):
    data = make_data(good())
    blocked = Path("feats/raw_fbank_train.2.ark")
    blocked.mkdir(parents=True)
    assert step(data, "log", "feats").returncode != 0
    blocked.rmdir()
    os.truncate("feats/raw_fbank_train.1.ark", 100)
    done = step(data, "log", "feats")
    assert (
        done.returncode == 1
        and "part 1, feats/raw_fbank_train.1.ark, is not what its job wrote" in done.stderr
    ), done.stderr
    assert not Path(data, "feats.scp").exists() and not Path(data, ".done.features").exists()
    assert step(data, "log", "feats").returncode == 0 and list(matrices(f"{data}/feats.scp")) == GOOD


def test_a_wrapper_of_the_users_own(recipe):
    """One with Kaldi's interface and no more: options with a value, JOB=1:N, a log, a command that is joined
    and given to a shell.
    """
    wrapper = recipe / "slurm.pl"
    wrapper.write_text(r"""#!/usr/bin/env bash
while [[ $1 == --* ]]; do
  case $1 in
    --mem | --time | --num-threads | --gpu | --max-jobs-run | --config) shift 2 ;;
    *) echo "$1 not described" >&2; exit 255 ;;
  esac
done
[[ $1 =~ ^JOB=1:([0-9]+)$ ]] || exit 255
echo used >> used
for ((n = 1; n <= BASH_REMATCH[1]; n++)); do
  line="${*:3}"
  bash -c "${line//JOB/$n}" > "${2//JOB/$n}" 2>&1 || exit 1
done
""")
    wrapper.chmod(0o755)
    data = make_data(good())
    done = step("--cmd", "slurm.pl --mem 2G", data, "log", "feats", PATH=f"{recipe}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert Path("used").exists() and list(matrices(f"{data}/feats.scp")) == GOOD


@pytest.mark.parametrize(
    "verb, kind", [("make-fbank", "fbank"), ("make-mfcc", "mfcc"), ("compute-vad", "vad")]
)
def test_a_wrapper_that_cannot_run_costs_nothing_and_one_that_does_nothing_is_named(
    recipe, capsys, verb, kind
):
    data = make_data(good())
    Path(data, "utt2spk").write_text("".join(f"{key} {key}\n" for key in sorted(GOOD)))
    table = Path(data, "vad.scp" if kind == "vad" else "feats.scp")
    table.write_text("earlier\n")
    Path(data, "energy.scp").write_text("d1_clean x.ark:1\n")
    Path("conf/mfcc.yaml").write_text("dither: 0.0\n")
    call = [verb, "--nj", "2", data, "log", "arks"]
    assert main([*call, "--cmd", "nosuch.pl"]) == 1
    assert "cannot run 'nosuch.pl'" in capsys.readouterr().err and table.read_text() == "earlier\n"
    assert main([*call, "--cmd", "true"]) == 1
    said = capsys.readouterr().err
    assert "job 1 of 2 left no output" in said and "--cmd 'true'" in said
