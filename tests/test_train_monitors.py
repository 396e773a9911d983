"""What is watched while training: effective rank, means over several processes, the log and its curves."""

import json
import math
import os

import numpy as np
import pytest
import torch

from pydino.base import UserError
from pydino.report import plots
from pydino.report.gather import gather_training_runs
from pydino.report.tables import training_table
from pydino.train.averaging import average_states
from pydino.train.monitors import (
    MOMENTS,
    Alarms,
    Averages,
    collapse,
    effective_rank,
    moments,
    partial_collapse,
)
from pydino.train.recorder import Recorder


def rank_by_hand(embeddings):
    """The definition in float64, step by step, with numpy."""
    x = embeddings.numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    p = p[p > 1e-12] / p[p > 1e-12].sum()
    return math.exp(-(p * np.log(p)).sum())


def test_effective_rank_of_batches_that_were_summed_equals_that_of_all_embeddings():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(240, 12, generator=draw) * torch.linspace(0.1, 2, 12) + 0.5
    total = sum(moments(batch) for batch in x.split(40))
    assert effective_rank(total) == pytest.approx(rank_by_hand(x), rel=1e-4)
    assert total[-1, -1] == 240


def test_effective_rank_where_it_is_known():
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(moments(corners)) == pytest.approx(6, rel=1e-5)
    assert effective_rank(moments(corners[[0, 1, 6, 7]])) == pytest.approx(2, rel=1e-5)
    # one point; what rounding leaves is not taken for directions
    assert effective_rank(moments(torch.randn(1, 6).expand(50, 6))) == 1
    assert math.isnan(effective_rank(moments(torch.full((4, 3), math.nan))))


def test_moments_are_exact_where_the_rest_is_in_bfloat16():
    x = torch.randn(64, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(moments(x), moments(x.clone())) and moments(x).dtype == torch.float32
        inside = moments(x)
    assert torch.equal(inside, moments(x))


def steps(number, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [
        {"loss": torch.rand((), generator=draw), MOMENTS: moments(torch.randn(8, 5, generator=draw))}
        for _ in range(number)
    ]


def averaged(metrics):
    averages = Averages()
    for step in metrics:
        averages.add(step)
    return averages


def test_means_of_an_interval_and_a_new_beginning():
    metrics = steps(6)
    averages = averaged(metrics)
    means = averages.read()
    assert means["loss"] == pytest.approx(np.mean([step["loss"].item() for step in metrics]))
    assert (
        means["effective_rank"] == pytest.approx(effective_rank(sum(step[MOMENTS] for step in metrics)))
        and means["embeddings"] == 48
    )
    assert averages.read() == {}
    averages.add(metrics[0])
    assert averages.peek()["loss"] == pytest.approx(metrics[0]["loss"].item())


def test_an_interval_that_was_interrupted_has_the_means_of_all_its_steps():
    metrics = steps(6)
    first = averaged(metrics[:2])
    kept = first.state()
    first.add(metrics[2])  # after the checkpoint was taken: not in it
    second = Averages()
    second.restore(kept)
    for step in metrics[2:]:
        second.add(step)
    assert second.read() == averaged(metrics).read()


def test_two_processes_read_the_figures_of_all_and_a_checkpoint_holds_them_once():
    metrics = steps(8)
    processes = [averaged(metrics[0::2]), averaged(metrics[1::2])]
    whole = averaged(metrics).read()

    def flat(averages):
        """What one process would send."""
        seen = []
        averages.peek(seen.append)
        return seen[0].clone()

    both = flat(processes[0]) + flat(processes[1])

    def all_reduce(tensor):
        tensor.copy_(both)

    read = [process.peek(all_reduce) for process in processes]
    assert read[0] == read[1] == pytest.approx(whole, rel=1e-5)

    state = processes[0].state(all_reduce)
    resumed = [Averages() for _ in range(3)]  # on three processes now
    for number, process in enumerate(resumed):
        process.restore(state, first=number == 0)
    both = sum(flat(process) for process in resumed)
    assert resumed[2].peek(all_reduce) == pytest.approx(whole, rel=1e-5)


def lines(exp):
    return [json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()]


def test_a_resumed_run_takes_back_what_came_after_and_lines_that_were_cut(tmp_path):
    recorder = Recorder(tmp_path, 0)
    for step in (10, 20, 30):
        recorder.write({"epoch": step / 20, "step": step, "loss": 1.0 / step, "effective_rank": math.nan})
    recorder.close()
    with open(tmp_path / "log.jsonl", "a") as stream:
        stream.write('{"epoch": 2.0, "ste')
    assert [line["step"] for line in lines_before_cut(tmp_path)] == [10, 20, 30]
    recorder = Recorder(tmp_path, 20)
    recorder.write({"epoch": 1.5, "step": 30, "loss": 7.0})
    recorder.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 0.1), (20, 0.05), (30, 7.0)]
    assert lines(tmp_path)[0]["effective_rank"] is None  # JSON has no nan
    # nothing was saved: all of it is done again
    assert Recorder(tmp_path, 0).close() is None and lines(tmp_path) == []


def lines_before_cut(exp):
    return [json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()[:-1]]


def test_tensorboard_has_the_same_numbers_and_hides_what_was_taken_back(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for resume_step, loss in ((0, 1.0), (20, 2.0)):
        recorder = Recorder(tmp_path, resume_step)
        for step in range(resume_step + 10, 50, 10):
            recorder.write({"epoch": step / 20, "step": step, "loss": loss, "kl": 0.5, "data_wait": 0.01})
        recorder.close()
    curves = events.EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert set(curves.Tags()["scalars"]) == {"loss/loss", "entropy/kl", "speed/data_wait"}
    assert [(event.step, event.value) for event in curves.Scalars("loss/loss")] == [
        (10, 1),
        (20, 1),
        (30, 2),
        (40, 2),
    ]


def test_without_tensorboard_there_is_a_line_and_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    recorder = Recorder(tmp_path, 0)
    recorder.write({"epoch": 1, "step": 1, "loss": 1.0})
    recorder.close()
    assert "pip install tensorboard" in capsys.readouterr().err
    assert len(lines(tmp_path)) == 1 and not (tmp_path / "tensorboard").exists()


def test_a_full_disk_is_said_once_and_training_goes_on(tmp_path, capsys):
    recorder = Recorder(tmp_path, 0)
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    for step in (1, 2, 3):
        recorder.write({"epoch": 1, "step": step, "loss": 1.0})
    recorder.close()
    assert capsys.readouterr().err.count("training goes on") == 1


def test_a_disk_that_took_half_a_line_keeps_none_of_it(tmp_path, monkeypatch, capsys):
    import pydino.train.recorder as module

    recorder = Recorder(tmp_path, 0)
    recorder.write({"epoch": 1, "step": 1, "loss": 1.0})

    class Half:
        """A file that takes seven bytes of what it is given, as the last block of a disk might."""

        def __init__(self, *arguments, **options):
            self.file = open(*arguments, **options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, text):
            return self.file.write(text[:7])

    monkeypatch.setattr(module, "open", Half, raising=False)
    recorder.write({"epoch": 1, "step": 2, "loss": 1.0})
    monkeypatch.undo()
    recorder.write({"epoch": 1, "step": 3, "loss": 1.0})
    recorder.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 3]
    assert os.strerror(28) in capsys.readouterr().err


def test_the_report_reads_a_log_of_many_lines_an_epoch(tmp_path):
    (tmp_path / "run").mkdir()
    recorder = Recorder(tmp_path / "run", 0)
    for step in range(1, 2001):
        recorder.write({"epoch": step / 500, "step": step, "loss": 5.0 - step / 1000, "kl": None})
    recorder.close()
    runs = gather_training_runs(tmp_path)
    table = training_table(runs)
    assert table.rows[0][:3] == ["run", "4", "3.000"]
    svg = plots.training_curves(runs, {"loss": {"loss": "-"}, "kl": {"kl": "-"}}, "training")
    assert len(svg) < 60_000  # 2,000 points would be more


# Lines of real runs: see docs/monitoring.md. D = 128, K = 1024.
UNTRAINED = {
    "teacher_entropy": 4.82,
    "mean_teacher_entropy": 6.60,
    "kl": 2.06,
    "embedding_spread": 0.98,
    "effective_rank": 27.4,
}
PLAIN = {
    "teacher_entropy": 0.92,
    "mean_teacher_entropy": 2.62,
    "kl": 0.69,
    "embedding_spread": 0.99,
    "effective_rank": 5.8,
}
KOLEO = {
    "teacher_entropy": 0.36,
    "mean_teacher_entropy": 2.37,
    "kl": 0.44,
    "embedding_spread": 0.995,
    "effective_rank": 34.6,
}
NO_CENTRE = {
    "teacher_entropy": 0.0,
    "mean_teacher_entropy": 0.001,
    "kl": 0.06,
    "embedding_spread": 0.93,
    "effective_rank": 7.0,
}
UNIFORM = {
    "teacher_entropy": 6.87,
    "mean_teacher_entropy": 6.93,
    "kl": 0.04,
    "embedding_spread": 0.80,
    "effective_rank": 2.5,
}
HASTY_TEACHER = {
    "teacher_entropy": 0.62,
    "mean_teacher_entropy": 1.31,
    "kl": 4.14,
    "embedding_spread": 0.83,
    "effective_rank": 2.28,
}
HOT_TEACHER = {
    "teacher_entropy": 6.85,
    "mean_teacher_entropy": 6.92,
    "kl": 0.14,
    "embedding_spread": 0.96,
    "effective_rank": 4.1,
}
UNTRAINED_SMALL = {
    "teacher_entropy": 2.2,
    "mean_teacher_entropy": 4.5,
    "kl": 2.1,
    "embedding_spread": 0.93,
    "effective_rank": 8.1,
}


def collapse_reason(means):
    return collapse(means, 1024)


@pytest.mark.parametrize(
    "means, whole, partial",
    [
        (UNTRAINED, "", ""),
        (UNTRAINED_SMALL, "", ""),
        (PLAIN, "", ""),
        (KOLEO, "", ""),
        (NO_CENTRE, "to a point", "nats"),
        (UNIFORM, "to uniform", "directions"),
        (HASTY_TEACHER, "", "2.3 directions of 128"),
        (HOT_TEACHER, "", "0.07 nats"),
    ],
)
def test_alarms_on_runs_that_were_seen_to_collapse_and_none_on_healthy_ones(means, whole, partial):
    means = {**means, "embeddings": 1216}
    reason = collapse_reason(means)
    assert whole in reason if whole else reason is None
    said = partial_collapse(means, 128)
    assert partial in said and bool(said) == bool(partial)


def test_few_embeddings_cannot_have_many_directions():
    assert partial_collapse({"effective_rank": 2.5, "embeddings": 9}, 256) == ""
    assert partial_collapse({"effective_rank": 2.5, "embeddings": 7000}, 8) == ""
    assert "2.5 directions of 256" in partial_collapse({"effective_rank": 2.5, "embeddings": 7000}, 256)


def test_alarms_sound_where_something_begins_and_stop_what_is_lost(capsys):
    alarms = Alarms(collapse_reason, "warn", 128, "audio")
    line = {"embeddings": 1216, "data_wait": 0.5}

    def said():
        return capsys.readouterr().err

    alarms(KOLEO | line)
    assert said() == ""  # the first interval fills the queue
    alarms(KOLEO | line)
    assert (
        "50 % of the time goes by waiting" in (text := said())
        and "--data-workers" in text
        and "input: features" in text
    )
    alarms(HASTY_TEACHER | line)
    assert "partial collapse" in (text := said()) and "waiting" not in text
    alarms(HASTY_TEACHER | line)
    assert said() == ""
    alarms(NO_CENTRE | line)
    assert "collapse to a point" in (text := said()) and "partial" not in text
    alarms(KOLEO | line)
    alarms(HASTY_TEACHER | line)
    assert "partial collapse" in said()  # it came back
    with pytest.raises(UserError, match="collapse to a point.*on_collapse: warn"):
        Alarms(collapse_reason, "stop", 128, "audio")(NO_CENTRE | line)
    with pytest.raises(UserError, match="kl: not a number any more"):
        alarms(KOLEO | line | {"kl": math.nan})
    Alarms(collapse_reason, "warn", 128, "audio", warns=False)(NO_CENTRE | line)
    assert said() == ""


def test_the_mean_of_models_is_taken_entry_by_entry():
    states = [
        {"w": torch.full((2, 2), value, dtype=torch.bfloat16), "n": torch.tensor(int(value))}
        for value in (1.0, 2.0, 6.0)
    ]
    mean = average_states(states)
    assert torch.equal(mean["w"], torch.full((2, 2), 3.0, dtype=torch.bfloat16)) and mean["n"] == 6
    far = [{"w": torch.tensor([value])} for value in (1e8, 1.0, -1e8)]
    assert average_states(far)["w"].item() == pytest.approx(1 / 3)  # a sum in float32 would lose it
    for other, text in (
        ({"w": torch.zeros(3)}, "w is float32"),
        ({"w": states[0]["w"]}, "n is int64 of shape .* missing in number 2"),
    ):
        with pytest.raises(ValueError, match=text):
            average_states([states[0] if "n" in text else {"w": torch.zeros(2)}, other])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_on_a_gpu_nothing_waits_before_the_reading():
    x = torch.randn(4, 64, 32, device="cuda")
    averages = Averages()
    # the library of matrix products starts at its first use
    averages.add({"loss": x.mean(), MOMENTS: moments(x[0])})
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in x[1:]:
            averages.add({"loss": batch.mean(), MOMENTS: moments(batch)})
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert averages.read()["effective_rank"] == pytest.approx(rank_by_hand(x.flatten(0, 1).cpu()), rel=1e-2)
