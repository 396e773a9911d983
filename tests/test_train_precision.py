"""How a step is computed: precision, loss scaling, compilation; what can be seen of it without a GPU."""

import pytest
import torch
from test_train_dino import CONFIG, data, equal, log_lines, train, weights  # noqa: F401  (data is a fixture)

from pydino.base import UserError
from pydino.train import precision
from pydino.train.precision import Precision, computes_in_bf16, no_compiler

CPU = torch.device("cpu")


class HalfOnCpu(Precision):
    """fp16 and its loss scaling where nobody would use them: on a CPU."""

    def __init__(self, name, device):
        super().__init__("fp32", device)
        self.name, self.scaler = "fp16", torch.amp.GradScaler("cpu", init_scale=2.0**24)


def test_half_precision_scales_its_loss_and_goes_on_after_an_overflow(data, tmp_path, monkeypatch):
    """The scale, far too large at first, is halved until gradients are finite; those steps are left out; a
    resumed run has the same.
    """
    import pydino.train.method as method

    monkeypatch.setattr(method, "Precision", HalfOnCpu)
    config = {**CONFIG, "epochs": 12, "koleo_weight": 0.0, "compute": {"precision": "fp16"}}
    assert train(data, tmp_path / "whole", config=config) == 0
    checkpoints = sorted((tmp_path / "whole/checkpoints").glob("*.pt"))
    assert log_lines(tmp_path / "whole")[-1]["loss_scale"] < 2.0**24
    state = torch.load(checkpoints[-1], weights_only=True)
    assert 0 < state["scaler"]["scale"] < 2.0**24
    updates = {float(entry["step"]) for entry in state["optimiser"]["state"].values()}
    assert 0 < max(updates) < state["step"]  # those that overflowed were left out
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "whole").values())
    assert train(data, tmp_path / "cut", config=config) == 0
    sorted((tmp_path / "cut/checkpoints").glob("*.pt"))[-1].unlink()
    (tmp_path / "cut/.done.train").unlink()
    assert train(data, tmp_path / "cut", config=config) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_half_precision_is_refused_on_a_cpu(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp", "--set", "compute.precision=fp16") == 1
    assert "fp16 needs a GPU" in capsys.readouterr().err


@pytest.mark.parametrize("flags, name", [("fpu avx512_bf16 sse", "bf16"), ("fpu avx2 sse", "fp32")])
def test_auto_is_what_the_processor_has(flags, name, monkeypatch):
    monkeypatch.setattr(precision.Path, "read_text", lambda *_, **__: f"flags : {flags}\n")
    assert computes_in_bf16(CPU) == (name == "bf16") and Precision("auto", CPU).name == name
    with pytest.raises(UserError):
        Precision("fp16", CPU)


def test_without_a_compiler_training_goes_on_and_says_so(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler 'no-such-compiler' is found" in no_compiler(CPU)
    assert train(data, tmp_path / "exp", "--set", "compute.compile=true", "--set", "epochs=1") == 0
    assert "compute.compile is off: no C++ compiler" in capsys.readouterr().err


def test_compile_and_activation_checkpointing_exclude_each_other(data, tmp_path, capsys):
    assert (
        train(
            data,
            tmp_path / "exp",
            "--set",
            "compute.compile=true",
            "--set",
            "compute.activation_checkpointing=true",
        )
        == 1
    )
    assert "choose compile or activation_checkpointing" in capsys.readouterr().err
