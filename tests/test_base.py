"""The base package: configuration checks, atomic writes, done-marks, keyed randomness."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest

from pydino.base import (
    ConfigError,
    Step,
    UserError,
    atomic_open,
    config_from_dict,
    ingredients,
    keyed_integers,
    keyed_normal,
    keyed_permutation,
    keyed_uniform,
    load_config,
    purpose,
    read_json,
    read_lines,
    read_text,
    read_yaml,
    split_fields,
    utterance_hash,
    why_not_done,
    write_mark,
    write_text,
)


@dataclass
class Optimiser:
    lr: float = 1e-3
    name: Literal["adam", "sgd"] = "adam"

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass
class Config:
    epochs: int = 1
    tag: str | None = None
    scales: list[float] = field(default_factory=list)
    optimiser: Optimiser = field(default_factory=Optimiser)


def load(tmp_path, text, overrides=()):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return load_config(Config, path, overrides)


def test_values_and_overrides(tmp_path):
    config = load(
        tmp_path, "epochs: 3\noptimiser: {lr: 1e-2}\nscales: [1, 2.5]", ["optimiser.name=sgd", "epochs=4"]
    )
    assert config == Config(4, None, [1.0, 2.5], Optimiser(0.01, "sgd"))


@dataclass
class Owner:
    optimiser: Optimiser = field(default_factory=lambda: Optimiser(lr=5.0, name="sgd"))


def test_a_group_given_in_part_keeps_its_owners_defaults():
    assert config_from_dict(Owner, {"optimiser": {"lr": 2}}).optimiser == Optimiser(2.0, "sgd")


@pytest.mark.parametrize(
    "text, said",
    [
        ("epoch: 3", "unknown key 'epoch' (did you mean 'epochs'?)"),
        ("optimiser: {rl: 3}", "unknown key 'optimiser.rl' (did you mean 'lr'?)"),
        ("epochs: 1.5", "epochs must be a whole number, got 1.5"),
        ("epochs: true", "epochs must be a whole number"),
        ("optimiser: {name: adma}", "must be one of adam, sgd, got 'adma' (did you mean 'adam'?)"),
        ("optimiser: {lr: -1}", "optimiser.lr must be above 0, got -1.0"),
        ("scales: 3", "scales must be a list"),
        ("optimiser: 3", "must be a group of options"),
        ("- 1", "expected 'key: value' lines"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value) and "c.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "text, said",
    [
        ("epochs: 1\ntag: a\nepochs: 2\n", "line 3: duplicate key 'epochs', first in line 1"),
        ("optimiser: {lr: 1}\noptimiser: {name: sgd}\n", "line 2: duplicate key 'optimiser'"),
        (
            "epochs: 1\noptimiser:\n  lr: 1\n  name: sgd\n  lr: 2\n",
            "line 5: duplicate key 'lr', first in line 3",
        ),
        ("scales: [1]\n'scales': [2]\n", "line 2: duplicate key 'scales'"),
    ],
)
def test_a_key_that_is_there_twice_is_an_error_with_key_and_line(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert f"{tmp_path}/c.yaml, {said}" in str(caught.value)


def test_a_key_twice_in_an_override_is_an_error():
    with pytest.raises(ConfigError, match="duplicate key 'lr'"):
        load_config(Config, None, ["optimiser={lr: 1, lr: 2}"])


def test_merge_keys_may_be_overridden(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: {<<: *b}\n"
    (tmp_path / "c.yaml").write_text(text)
    mapping = read_yaml(tmp_path / "c.yaml")
    assert mapping["c"] == {"x": 3, "y": 4} and mapping["d"] == {"x": 3, "y": 2}


def test_extends_leaves_what_differs(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "first.yaml").write_text(
        "epochs: 3\ntag: a\nscales: [1, 2]\noptimiser: {lr: 0.5, name: sgd}\n"
    )
    (tmp_path / "sub/second.yaml").write_text("extends: ../first.yaml\ntag: null\nscales: [3]\n")
    (tmp_path / "third.yaml").write_text("extends: sub/second.yaml\noptimiser: {lr: 0.25}\n")
    expected = Config(3, None, [3.0], Optimiser(0.25, "sgd"))
    assert load_config(Config, tmp_path / "third.yaml") == expected
    assert load_config(Config, tmp_path / "third.yaml", ["epochs=4"]).epochs == 4
    assert "extends" not in read_yaml(tmp_path / "third.yaml")


def test_options_of_one_encoder_are_not_those_of_another(tmp_path):
    (tmp_path / "base.yaml").write_text("encoder: {name: tdnn, channels: 32}\nhead: {dim: 1}\n")
    (tmp_path / "same.yaml").write_text("extends: base.yaml\nencoder: {name: tdnn, dim: 8}\n")
    (tmp_path / "other.yaml").write_text("extends: base.yaml\nencoder: {name: ecapa}\n")
    assert read_yaml(tmp_path / "same.yaml")["encoder"] == {"name": "tdnn", "channels": 32, "dim": 8}
    assert read_yaml(tmp_path / "other.yaml") == {"encoder": {"name": "ecapa"}, "head": {"dim": 1}}


@pytest.mark.parametrize(
    "text, said",
    [
        ("extends: c.yaml\n", "extend each other"),
        ("extends: d.yaml\n", "extend each other"),
        ("extends: no.yaml\n", "c.yaml: extends no.yaml, but there is no "),
        ("extends: [d.yaml]\n", "extends must be the name of one YAML file"),
        ("extends:\n", "extends must be the name of one YAML file"),
        ("extends: e.yaml\n", "e.yaml, line 2: duplicate key 'epochs'"),
    ],
)
def test_mistakes_in_extends(tmp_path, text, said):
    (tmp_path / "d.yaml").write_text("extends: c.yaml\n")
    (tmp_path / "e.yaml").write_text("epochs: 1\nepochs: 2\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_marks_compare_what_a_configuration_resolves_to(tmp_path):
    (tmp_path / "base.yaml").write_text("epochs: 3\ntag: a\n")
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 3\ntag: b\n")
    before = ingredients(configs=[path])
    path.write_text("extends: base.yaml\ntag: b\n")
    assert ingredients(configs=[path]) == before
    (tmp_path / "base.yaml").write_text("epochs: 4\ntag: a\n")
    assert ingredients(configs=[path]) != before


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfepochs: 3\ntag: b\n", b"epochs: 3\r\ntag: b\r\n", b"epochs: 3\rtag: b\r"]
)
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    assert load_config(Config, tmp_path / "c.yaml") == Config(3, "b")
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "c.json") == {}


@pytest.mark.parametrize("read", [read_text, read_lines, read_yaml, read_json])
def test_what_is_not_utf8_is_named_with_line_and_byte(tmp_path, read):
    path = tmp_path / "c.yaml"
    path.write_bytes("epochs: 1\ntag: Zoë # x\n".encode("latin-1"))
    with pytest.raises(UserError) as caught:
        read(path)
    said = f"{path} is not UTF-8 text: byte 8 of line 2, 'tag: Zoë # x', is 0xEB; convert the file: iconv -f latin1"
    assert said in str(caught.value)
    path.write_bytes("epochs: 1\n".encode("utf-16"))
    with pytest.raises(UserError, match="iconv -f utf-16"):
        read(path)
    with pytest.raises(UserError, match="cannot read .*nosuch"):
        read(tmp_path / "nosuch")


def test_lines_and_fields_are_those_that_kaldi_sees(tmp_path):
    path = tmp_path / "list"
    path.write_bytes(b"\xef\xbb\xbfa\xc2\xa0b \tc\r\n\r\nd\xe2\x80\xa8e\x1cf")
    assert read_lines(path) == ["a\xa0b \tc", "", "d\u2028e\x1cf"]
    assert [split_fields(line) for line in read_lines(path)] == [["a\xa0b", "c"], [], ["d\u2028e\x1cf"]]
    assert split_fields(" a\tb c ", 1) == ["a", "b c "]
    path.write_bytes(b"a\rb\r")
    assert read_lines(path) == ["a", "b"]
    path.write_bytes("é\n".encode("latin-1"))
    assert read_text(path, latin1=True) == "é\n"
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "é x.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_open(path) as stream:
        stream.write("new")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_full_disk_is_a_users_error_and_keeps_the_old_file(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(UserError, match="No space left on device"), atomic_open(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "x").read_text() == "old"


def test_unwritable_place_is_a_users_error():
    with pytest.raises(UserError, match="cannot write /proc/nowhere/x"):
        write_text("/proc/nowhere/x", "")


def test_mark_knows_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text("a.scp", "x 1\n")
    write_text("c.yaml", "lr: 1 # comment\n")
    write_text("out", "result")

    def wanted():
        return ingredients(version=1, configs=["c.yaml"], settings={"dim": 3}, texts=["a.scp"])

    assert why_not_done("m", wanted()) == "not done yet"
    write_mark("m", wanted(), ["out"])
    assert why_not_done("m", wanted()) == ""
    write_text("c.yaml", "# another comment\nlr:   1\n")
    assert why_not_done("m", wanted()) == ""
    write_text("c.yaml", "lr: 2\n")
    assert why_not_done("m", wanted()) == "configuration c.yaml changed"
    write_text("c.yaml", "lr: 1\n")
    write_text("out", "cut")
    assert why_not_done("m", wanted()) == "out has another size"
    write_text("out", "result")
    write_text("a.scp", "x 2\n")
    assert why_not_done("m", wanted()) == "a.scp changed"
    write_text("a.scp", "x 1\n")
    monkeypatch.setenv("PYDINO_FORCE", "true")
    assert why_not_done("m", wanted()) == "--force was given"
    monkeypatch.setenv("PYDINO_FORCE", "20261123-1")
    assert why_not_done("m", wanted()) == "--force was given"
    write_mark("m", wanted(), ["out"])
    assert why_not_done("m", wanted()) == ""  # redone for this very call, which a scheduler started again
    monkeypatch.setenv("PYDINO_FORCE", "20261123-2")
    assert why_not_done("m", wanted()) == "--force was given"
    monkeypatch.delenv("PYDINO_FORCE")
    assert why_not_done("m", wanted()) == ""


def test_mark_follows_the_mark_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mark("first", ingredients(settings={"a": 1}))
    write_mark("second", ingredients(after=["first"]))
    assert why_not_done("second", ingredients(after=["first"])) == ""
    write_mark("first", ingredients(settings={"a": 2}))
    assert "first" in why_not_done("second", ingredients(after=["first"]))


def test_a_step_leaves_its_mark_only_when_its_work_ends_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYDINO_FORCE", raising=False)
    write_text("a.scp", "x 1\n")

    def step(**options):
        return Step(
            "m",
            "out",
            options={"dim": 3, "flag": True, **options},
            reads=["a.scp"],
            optional=["b"],
            after=["b"],
            removes=["out.scp"],
            outputs=["out"],
        )

    assert step().reason() == "not done yet" and not step().is_done()
    with pytest.raises(ZeroDivisionError), step():
        write_text("out", "x")
        raise ZeroDivisionError
    assert step().reason() == "not done yet"
    with pytest.raises(UserError, match="nowhere was not written"), step() as broken:
        broken.outputs.append("nowhere")
    write_text("out.scp", "points into an earlier out")
    with step() as run:
        assert not (tmp_path / "out.scp").exists() and not (tmp_path / "m").exists()
        write_text("more", "y")
        run.outputs.append("more")
    assert step().reason() == "" and step().is_done()
    assert step(flag=False).reason() == "option flag changed"
    assert step().digest != step(dim=4).digest == step(dim="4").digest
    write_text("more", "longer")
    assert step().reason() == "more has another size"
    write_text("more", "y")
    write_mark("b", {"format version": "1"})  # an optional file and a mark that appear later
    assert step().reason() == "b is new"
    with pytest.raises(UserError, match="cannot read nowhere"):
        Step("m", "out", reads=["nowhere"])


def test_keyed_draws_are_uniform_and_independent_of_grouping():
    hashes = np.array([utterance_hash(f"u{i}") for i in range(20000)], dtype=np.uint64)
    draws = keyed_uniform(7, hashes, 3, purpose("crop"))
    assert draws[5] == keyed_uniform(7, int(hashes[5]), 3, purpose("crop"))
    counts = np.histogram(draws, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-square, 19 degrees of freedom: p = 1e-4
    for other in (
        keyed_uniform(8, hashes, 3, purpose("crop")),
        keyed_uniform(7, hashes, 4, purpose("crop")),
        keyed_uniform(7, hashes, 3, purpose("order")),
    ):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 0.03
    normal = keyed_normal(7, hashes)
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.03
    assert set(keyed_integers(2, 5, 7, hashes)) == {2, 3, 4}


def test_draws_stay_the_same_between_versions():
    """Published results depend on these numbers: a change here is a change of every experiment."""
    assert keyed_uniform(1, 2, 3, size=2) == pytest.approx([0.66841669, 0.80709283], abs=1e-8)
    assert utterance_hash("spk1-utt1") == 10584584911637358210


def test_order_follows_the_hashes_not_their_place():
    hashes = np.array([utterance_hash(f"u{i}") for i in range(100)], dtype=np.uint64)
    shuffled = hashes[::-1].copy()
    assert (hashes[keyed_permutation(hashes, 5, 1)] == shuffled[keyed_permutation(shuffled, 5, 1)]).all()
    assert (keyed_permutation(hashes, 5, 1) != keyed_permutation(hashes, 5, 2)).any()
    assert sorted(keyed_permutation(10, 0)) == list(range(10))


def test_a_mistake_in_an_override_is_not_blamed_on_the_file(tmp_path):
    for override, said in (
        ("nosuch=1", "unknown key 'nosuch'; known:"),
        ("tag.x=1", "'tag' is not a group"),
    ):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path, "tag: x\n", [override])
        assert override in str(refused.value) and said in str(refused.value)
        assert ".yaml" not in str(refused.value)
    with pytest.raises(
        ConfigError, match=r"\.yaml: unknown key 'wrong'"
    ):  # of the file, whatever else is given
        load(tmp_path, "tag: x\nwrong: 1\n", ["nosuch=1"])
