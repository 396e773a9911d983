"""Fine-tuning on whole, padded utterances, and on joined ones."""

import math

import test_train_classifier
from test_train_classifier import log_lines, made, tuning

from pydino.downstream.finetuning import tune_fold

assert made is test_train_classifier.made  # the fixture


def test_whole_and_joined_utterances(made, tmp_path):
    """A batch of 36 utterances of 0.9 to 3.4 s; two trainings with and without partners differ."""
    losses = []
    for probability in (0.0, 0.8):
        training = {
            "epochs": 2,
            "crops": {"short": "mask", "whole_up_to_seconds": 3.0},
            "copy_paste": {"probability": probability, "partner": "same"},
        }
        made_by = tuning(made, training)
        outputs = tune_fold(made_by, "s0", tmp_path / f"{probability}")
        lines = log_lines(tmp_path / f"{probability}")
        losses.append(lines[-1]["loss"])
        assert len(outputs) == 6 and all(math.isfinite(line["loss"]) for line in lines)
    assert losses[0] != losses[1]
