"""Folds that a data directory may or may not bring along (``--folds given``)."""

import pytest
from test_local_corpora import table

from pydino.cli import main
from pydino.kaldi import write_table


@pytest.mark.parametrize("brings", [True, False])
def test_folds_are_those_of_the_directory_where_it_has_them(brings, tmp_path):
    keys = [f"s{speaker}-{number}" for speaker in range(4) for number in range(2)]
    data, task = tmp_path / "data", tmp_path / "task"
    write_table(data / "utt2spk", {key: key[:2] for key in keys})
    write_table(data / "utt2label", {key: "ab"[number % 2] for number, key in enumerate(keys)})
    if brings:
        write_table(data / "utt2fold", {key: f"part{int(key[1]) // 2}" for key in keys})
    call = ["make-task", "--name", "label", "--labels", "utt2label", "--folds", "given", str(data), str(task)]
    main(call)
    folds = sorted(path.name for path in task.glob("fold.*"))
    assert folds == (
        ["fold.final", "fold.part0", "fold.part1"]
        if brings
        else [*(f"fold.{k}" for k in "0123"), "fold.final"]
    )
    if not brings:  # a table that comes later makes the task again
        write_table(data / "utt2fold", {key: "test" if key[1] == "3" else "train" for key in keys})
        main(call)
        assert {key for key, part in table(task / "fold.fixed").items() if part == "test"} == {"s3-0", "s3-1"}
