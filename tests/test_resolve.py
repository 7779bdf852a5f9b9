"""Resolution of settings: precedence of defaults, blocks and embedded data, sweeps, and the origin of each value."""

import itertools
import math
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from labbook.__main__ import main
from labbook.config import show as show_command
from labbook.config.merging import SettingsLayer, merge
from labbook.config.project import parse_project
from labbook.config.reading import read
from labbook.config.show import show
from labbook.config.sweep import Sweep, Vary, read_sweep, resolve_sweep
from labbook.config.train import errors_at_origin, read_training, resolve
from labbook.errors import ConstraintError, ParamsError

TRAIN = "experiments.one.train"
SWEEP = {
    "assignment": "A",
    "title": "Rates",
    "experiment": "one",
    "vary": {"key": "optimizer.lr", "first": 0.1, "last": 0.4, "count": 4},
}


def params(
    train: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None, sweep: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of a params.yaml with one experiment and perhaps a sweep, changed by the arguments."""
    block = {
        "inputs": {"dataset": "mnist", "pretrained": "none"},
        "model": {"name": "mlp", "hidden": [10]},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "epochs": 3,
    }
    values: dict[str, Any] = {
        "seed": 7,
        "device": "cpu",
        "data": {"source": "official"},
        "defaults": {"A": {"batch_size": 32} | dict(defaults or {})},
        "experiments": {"one": {"assignment": "A", "title": "One", "train": block | dict(train or {})}},
    }
    if sweep is not None:
        values["sweeps"] = {"rates": SWEEP | dict(sweep)}
    return values


def settings(source: str = "official", **changes: Any) -> dict[str, Any]:
    return resolve(params(**changes), "experiments.one", source).settings.model_dump()


def refusal(source: str = "official", **changes: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        resolve(params(**changes), "experiments.one", source)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a params.yaml of one experiment and one sweep."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(sweep={})), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Precedence


@pytest.mark.parametrize(
    ("layers", "official", "embedded"),
    [
        ({"defaults": {}}, None, None),
        ({"defaults": {"validate_every": 1}}, 1, 1),
        ({"train": {"validate_every": 2}}, 2, 2),
        ({"defaults": {"validate_every": 1}, "train": {"validate_every": 2}}, 2, 2),
        ({"defaults": {"validate_every": 1, "embedded": {"validate_every": 3}}}, 1, 3),
        ({"defaults": {"embedded": {"validate_every": 3}}, "train": {"validate_every": 2}}, 2, 3),
        ({"defaults": {"embedded": {"validate_every": 3}}, "train": {"embedded": {"validate_every": 4}}}, None, 4),
        ({"defaults": {"validate_every": 1}, "train": {"validate_every": None}}, None, None),
        ({"train": {"validate_every": 2, "embedded": {"validate_every": None}}}, 2, None),
    ],
)
def test_embedded_overrides_the_block_which_overrides_the_defaults_which_override_the_schema(layers, official, embedded):
    assert settings("official", **layers)["validate_every"] == official
    assert settings("embedded", **layers)["validate_every"] == embedded


SGD = {"name": "SGD", "lr": 0.1, "momentum": 0.9}


@pytest.mark.parametrize(
    ("block", "resolved"),
    [
        ({"lr": 0.5}, {"name": "SGD", "lr": 0.5, "momentum": 0.9}),
        ({"name": "SGD", "nesterov": True}, {"name": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ({"name": "Adam", "lr": 0.001}, {"name": "Adam", "lr": 0.001}),
        ({}, SGD),
    ],
)
def test_a_component_is_merged_with_the_default_unless_the_names_differ(block, resolved):
    values = params({"optimizer": block}, {"optimizer": SGD})
    assert resolve(values, "experiments.one", "official").settings.optimizer.model_dump() == resolved


def test_a_default_without_a_name_completes_the_component_of_the_block():
    values = params({"model": {"name": "mlp", "hidden": [10]}}, {"model": {"dropout": 0.5}})
    assert resolve(values, "experiments.one", "official").settings.model.model_dump() == {
        "name": "mlp",
        "hidden": [10],
        "dropout": 0.5,
    }


@pytest.mark.parametrize(
    "change",
    [{"schedule": None}, {"schedule": {"name": "StepLR", "step_size": 2}}, {"schedule": {"gamma": 0.5}}],
)
def test_a_schedule_of_the_defaults_is_cleared_replaced_or_merged(change):
    default = {"name": "MultiStepLR", "milestones": [5]}
    expected = {
        None: None,
        "StepLR": {"name": "StepLR", "step_size": 2},
        "gamma": {"name": "MultiStepLR", "milestones": [5], "gamma": 0.5},
    }
    key = change["schedule"] and change["schedule"].get("name", "gamma")
    assert settings(train=change, defaults={"schedule": default})["schedule"] == expected[key]


def test_a_block_may_omit_the_name_of_the_default_loss():
    assert settings()["loss"] == {"name": "CrossEntropyLoss"}
    assert settings(train={"loss": {"label_smoothing": 0.1}})["loss"] == {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
    assert settings(train={"loss": {"name": "MultiMarginLoss"}})["loss"] == {"name": "MultiMarginLoss"}


def test_lists_replace_lists():
    resolved = settings(
        train={"constraint": {"layers_allowed": ["Linear"]}}, defaults={"constraint": {"layers_allowed": ["ReLU"]}}
    )
    assert resolved["constraint"]["layers_allowed"] == ["Linear"]


def test_mappings_that_are_not_components_are_merged_key_by_key():
    resolved = settings(train={"augment": {"flip": 0.5}}, defaults={"augment": {"rotation": 30.0}})
    assert resolved["augment"] == {"crop_padding": 0, "flip": 0.5, "rotation": 30.0}


def test_a_rule_of_early_stopping_replaces_the_default_rule_if_that_is_cleared():
    defaults = {"validation": True, "early_stopping": {"window": 4}}
    assert settings(defaults=defaults)["early_stopping"] == {"window": 4, "patience": None}
    other = {"early_stopping": {"window": None, "patience": 5}}
    assert settings(train=other, defaults=defaults)["early_stopping"] == {"window": None, "patience": 5}
    assert settings(train={"early_stopping": None}, defaults=defaults)["early_stopping"] is None
    message = refusal(train={"early_stopping": {"patience": 5}}, defaults=defaults)
    assert message == f"{TRAIN}.early_stopping: set exactly one of window and patience, such as {{patience: 5}}."


def test_embedded_applies_only_to_embedded_data():
    changes = {"epochs": 1, "model": {"dropout": 0.5}, "optimizer": {"lr": 0.5}}
    official, embedded = settings("official", train={"embedded": changes}), settings("embedded", train={"embedded": changes})
    assert official == settings()
    assert embedded == official | {
        "epochs": 1,
        "model": official["model"] | {"dropout": 0.5},
        "optimizer": official["optimizer"] | {"lr": 0.5},
    }


def test_a_component_in_embedded_of_the_defaults_applies_to_components_of_the_same_name():
    defaults = {"embedded": {"optimizer": {"name": "SGD", "lr": 0.5}, "model": {"dropout": 0.5}, "epochs": 1}}
    adam = {"name": "Adam", "lr": 0.001}
    resolved = settings("embedded", train={"optimizer": adam}, defaults=defaults)
    assert (resolved["optimizer"], resolved["model"]["dropout"], resolved["epochs"]) == (adam, 0.5, 1)
    assert settings("embedded", defaults=defaults)["optimizer"] == {"name": "SGD", "lr": 0.5}
    assert settings("embedded", train={"embedded": {"optimizer": {"lr": 0.7}}}, defaults=defaults)["optimizer"]["lr"] == 0.7
    assert settings("official", defaults=defaults)["optimizer"] == {"name": "SGD", "lr": 0.1}


def test_a_block_without_an_assignment_has_no_defaults():
    values = params()
    values["pretrained"] = {"net": {"train": values["experiments"]["one"]["train"] | {"batch_size": 8}}}
    assert resolve(values, "pretrained.net", "official").settings.batch_size == 8


def test_resolving_does_not_modify_the_values():
    values, copy = (
        params({"optimizer": {"lr": 0.5}}, {"optimizer": SGD}),
        params({"optimizer": {"lr": 0.5}}, {"optimizer": SGD}),
    )
    resolve(values, "experiments.one", "embedded")
    assert values == copy


nested = st.recursive(
    st.integers(0, 9) | st.none() | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "name"]), inner, max_size=3),
    max_leaves=8,
)


@given(layers=st.lists(st.dictionaries(st.sampled_from(["x", "y"]), nested), max_size=3))
def test_origins_name_the_last_layer_that_sets_a_value(layers):
    merged, origins = merge([SettingsLayer(str(number), layer) for number, layer in enumerate(layers)])

    def leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, (*path, key))
            else:
                yield (*path, key), value

    for path, value in leaves(merged):
        setters = [number for number, layer in enumerate(layers) if (path, value) in list(leaves(layer))]
        assert int(origins[".".join(path)]) in setters
        assert int(origins[".".join(path)]) == max(setters)
    paths = {".".join(path[: length + 1]) for path, _ in leaves(merged) for length in range(len(path))}
    assert paths <= origins.keys()


# Messages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epochs": 0}}, f"{TRAIN}.epochs: invalid value 0: input should be greater than 0."),
        ({"defaults": {"batch_size": 0}}, "defaults.A.batch_size: invalid value 0: input should be greater than 0."),
        (
            {"defaults": {"epochs": 0}, "train": {"epochs": 1, "seeds": True}},
            f"{TRAIN}.seeds: invalid value True: input should be",
        ),
        (
            {"defaults": {"epochs": "3"}, "train": {"epochs": "4"}},
            f"{TRAIN}.epochs: invalid value '4': input should be a valid",
        ),
        (
            {"defaults": {"augment": {"flp": 1.0}}},
            "defaults.A.augment.flp: unknown key; did you mean 'flip'? Known keys here: ",
        ),
        ({"train": {"epoch": 3}}, f"{TRAIN}.epoch: unknown key; did you mean 'epochs'? Known keys here: inputs, "),
        ({"defaults": {"Epochs": 3}}, "defaults.A.Epochs: unknown key; did you mean 'epochs'? Known keys here: inputs, "),
        ({"train": {"embeded": {}}}, f"{TRAIN}.embeded: unknown key; did you mean 'embedded'? Known keys here: inputs, "),
        ({"train": {"embedded": 3}}, f"{TRAIN}.embedded: invalid value 3: expected a mapping of keys to values."),
        ({"train": {"embedded": None}}, f"{TRAIN}.embedded: invalid value None: expected a mapping of keys to values."),
        ({"train": {"model": "mlp"}}, f"{TRAIN}.model: invalid value 'mlp': expected a mapping of keys to values."),
        ({"train": {"optimizer": None}}, f"{TRAIN}.optimizer: invalid value None: expected a mapping of keys to values."),
        ({"train": {"model": {"hidden": [10]}}}, f"{TRAIN}.model.name: missing. Add it to params.yaml."),
        ({"train": {"inputs": {"dataset": "mnist"}}}, f"{TRAIN}.inputs.pretrained: missing. Add it to params.yaml."),
        ({"train": {"select": "best_val_acc"}}, f"{TRAIN}.select: invalid value 'best_val_acc': input should be 'last', "),
        (
            {"train": {"preprocess": {"mean": "x"}}},
            f"{TRAIN}.preprocess.mean: invalid value 'x': input should be a valid number or a",
        ),
        (
            {"train": {"preprocess": {"mean": [0.5, "x"]}}},
            f"{TRAIN}.preprocess.mean.1: invalid value 'x': input should be a valid",
        ),
        ({"train": {"early_stopping": {"patience": 3}}}, f"{TRAIN}: early_stopping needs validation: true."),
        ({"train": {"select": "best_val_loss"}}, f"{TRAIN}: select: best_val_loss needs validation: true."),
        ({"train": {"world_size": 33}}, f"{TRAIN}: world_size: 33 processes cannot share a batch of 32 samples."),
        (
            {"train": {"backend": "numpy", "optimizer": {"name": "Adam", "lr": 0.1}, "watch": ["dead_units"]}},
            f"{TRAIN}: backend: numpy supports only optimizer: {{name: SGD}} and watch: [].",
        ),
    ],
)
def test_an_error_names_the_key_that_sets_the_value(changes, message):
    actual = refusal(**changes)
    assert actual.startswith(message)
    assert "\n" not in actual


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"embedded": {"epochs": 0}}}, f"{TRAIN}.embedded.epochs: invalid value 0: input should be greater than 0."),
        (
            {"defaults": {"embedded": {"epochs": 0}}},
            "defaults.A.embedded.epochs: invalid value 0: input should be greater than 0.",
        ),
        (
            {"train": {"embedded": {"epoch": 1}}},
            f"{TRAIN}.embedded.epoch: unknown key; did you mean 'epochs'? Known keys here: ",
        ),
        ({"train": {"embedded": {"embedded": {}}}}, f"{TRAIN}.embedded.embedded: unknown key. Known keys here: inputs, "),
    ],
)
def test_an_error_on_embedded_data_names_the_key_that_sets_the_value(changes, message):
    assert refusal("embedded", **changes).startswith(message)
    if "embedded.embedded" not in message:
        settings("official", **changes)


def test_the_nearest_choice_is_suggested():
    message = refusal(train={"validation": True, "select": "best_val_acc"})
    assert message.endswith("; did you mean 'best_val_accuracy'?")


def test_several_errors_are_one_line_each():
    message = refusal(train={"epochs": 0, "schdule": {}, "optimizer": {"lr": 0.1}}, defaults={"batch_size": True})
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        f"{TRAIN}.schdule",
        f"{TRAIN}.optimizer.name",
        "defaults.A.batch_size",
        f"{TRAIN}.epochs",
    ]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("AA", "experiments.one.assignment: 'AA' is not a block of defaults; did you mean 'A'? Known: A."),
        ("xyz", "experiments.one.assignment: 'xyz' is not a block of defaults. Known: A."),
        (["A"], "experiments.one.assignment: ['A'] is not a block of defaults"),
        (None, "experiments.one.assignment: None is not a block of defaults"),
    ],
)
def test_an_assignment_without_defaults_is_refused(assignment, message):
    values = params()
    values["experiments"]["one"]["assignment"] = assignment
    with pytest.raises(ParamsError) as caught:
        resolve(values, "experiments.one", "official")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("experiments.onn", "experiments: no key 'onn'; did you mean 'one'?"),
        ("experiment.one", "params.yaml: no key 'experiment'; did you mean 'experiments'?"),
        ("data.source", "data.source: no key 'train'."),
    ],
)
def test_a_block_that_does_not_exist_is_refused_with_the_nearest_one(block, message):
    with pytest.raises(ParamsError) as caught:
        resolve(params(), block, "official")
    assert str(caught.value) == message


def test_a_training_reads_only_its_own_block_and_its_defaults(edit_params):
    """An error in another experiment must not make this one fail or train again."""

    def change(values):
        values["experiments"]["mnist_cnn"]["train"]["batch_size"] = "wrong"
        values["experiments"]["mnist_mlp_100"]["title"] = "another title"
        values["defaults"]["B"]["unknown"] = 1

    before = read_training("mnist_mlp_100", "embedded")
    edit_params(change)
    assert read_training("mnist_mlp_100", "embedded") == before


def test_a_training_has_the_seed_and_device_of_the_project(folder):
    resolved, runtime = read_training("one", "official")
    assert (runtime.seed, runtime.device) == (7, "cpu")
    assert resolved == resolve(params(), "experiments.one", "official").settings


# Errors that training raises after the settings are resolved


def test_an_error_during_training_names_the_key_that_sets_the_value(folder):
    values = params({"model": {"hidden": [10]}}, {"model": {"name": "mlp", "hiden": [3]}, "optimizer": {"nesterof": True}})
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    message = (
        f"{TRAIN}.model.hiden: unknown key.\n{TRAIN}.model.hidden.0: too many.\n{TRAIN}.optimizer.nesterof: unknown.\n"
        f"{TRAIN}.optimizer: SGD: something else.\n{TRAIN}.precision: no bf16.\n{TRAIN}: all of it.\nelsewhere: {TRAIN}.epochs."
    )
    with pytest.raises(ConstraintError) as caught, errors_at_origin("experiments.one", "official"):
        raise ConstraintError(message)
    assert str(caught.value).splitlines() == [
        "defaults.A.model.hiden: unknown key.",
        f"{TRAIN}.model.hidden.0: too many.",
        "defaults.A.optimizer.nesterof: unknown.",
        f"{TRAIN}.optimizer: SGD: something else.",
        f"{TRAIN}.precision: no bf16.",
        f"{TRAIN}: all of it.",
        f"elsewhere: {TRAIN}.epochs.",
    ]


# Sweeps


@given(first=st.floats(-1e6, 1e6), last=st.floats(-1e6, 1e6), count=st.integers(2, 100))
def test_values_of_a_sweep_are_equally_spaced_with_both_ends(first, last, count):
    assume(abs(last - first) > 1e-3 * max(abs(first), abs(last), 1e-3))
    values = Vary(key="model.dropout", first=first, last=last, count=count).values()
    assert len(values) == count
    assert [values[0], values[-1]] == [float(f"{first:.12g}"), float(f"{last:.12g}")]
    steps = [after - before for before, after in itertools.pairwise(values)]
    assert steps == pytest.approx([(last - first) / (count - 1)] * len(steps), rel=1e-6, abs=1e-9)


def test_values_of_a_sweep_have_twelve_significant_digits():
    assert Vary(key="x", first=0.0, last=1.0, count=10).values()[1:3] == [0.111111111111, 0.222222222222]
    assert Vary(key="x", first=0.1, last=0.4, count=4).values() == [0.1, 0.2, 0.3, 0.4]
    assert 0.1 + 2 * (0.4 - 0.1) / 3 != 0.3


@pytest.mark.parametrize(("first", "last", "count"), [(0.5, 0.5, 2), (1.0, 1.0 + 1e-13, 2), (1.0, 1.0 + 1e-11, 20)])
def test_equal_values_of_a_sweep_are_refused(first, last, count, folder):
    vary = {"key": "optimizer.lr", "first": first, "last": last, "count": count}
    (folder / "params.yaml").write_text(yaml.safe_dump(params(sweep={"vary": vary})), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"^sweeps\.rates\.vary: \d+ values from \S+ to \S+ are not all different\.$"):
        read_sweep("rates", "official")


def test_a_sweep_is_its_experiment_with_one_setting_varied(folder):
    variants, runtime = read_sweep("rates", "official")
    one = resolve(params(), "experiments.one", "official").settings.model_dump()
    assert [value for value, _ in variants] == [0.1, 0.2, 0.3, 0.4]
    for value, train in variants:
        assert train.model_dump() == one | {"optimizer": {"name": "SGD", "lr": value}}
    assert runtime.seed == 7


def test_a_sweep_trains_once_per_value_and_may_override_settings():
    values = params({"seeds": 5}, sweep={"train": {"epochs": 2, "embedded": {"epochs": 1, "batch_size": 8}}})
    sweep = Sweep.model_validate(values["sweeps"]["rates"])
    for source, epochs, batch_size in (("official", 2, 32), ("embedded", 1, 8)):
        for _, resolved in resolve_sweep(values, "rates", sweep, source):
            train = resolved.settings
            assert (train.seeds, train.epochs, train.batch_size) == (1, epochs, batch_size)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"train": {"optimizer": {"lr": 1.0}}}, "sweeps.rates.train.optimizer.lr: the sweep varies it. Remove it."),
        (
            {"train": {"embedded": {"optimizer": {"lr": 1.0}}}},
            "sweeps.rates.train.embedded.optimizer.lr: the sweep varies it. ",
        ),
        ({"train": {"seeds": 3}}, "sweeps.rates.train.seeds: a sweep trains once per value. Remove it."),
        ({"train": {"inputs": {"dataset": "rings"}}}, "sweeps.rates.train.inputs: the data is that of one. Remove it."),
        ({"train": {"epoch": 3}}, "sweeps.rates.train.epoch: unknown key; did you mean 'epochs'? Known keys here: "),
        ({"train": {"epochs": 0}}, "sweeps.rates.train.epochs: invalid value 0: input should be greater than 0."),
        (
            {"vary": SWEEP["vary"] | {"key": "optimiser.lr"}},
            "sweeps.rates.vary.optimiser: unknown key; did you mean 'optimizer'?",
        ),
        ({"vary": SWEEP["vary"] | {"key": "augment.flp"}}, "sweeps.rates.vary.augment.flp: unknown key; did you mean 'flip'?"),
        (
            {"vary": SWEEP["vary"] | {"key": "epochs"}},
            "sweeps.rates.vary.epochs: invalid value 0.1: input should be a valid integer",
        ),
        ({"vary": SWEEP["vary"] | {"key": "augment.flip", "last": 1.5}}, "sweeps.rates.vary.augment.flip: invalid value 1."),
        ({"vary": SWEEP["vary"] | {"key": "schedule.gamma"}}, "sweeps.rates.vary.schedule.name: missing."),
        (
            {"vary": SWEEP["vary"] | {"cont": 1}},
            "sweeps.rates.vary.cont: unknown key; did you mean 'count'? Known keys here: key, ",
        ),
        (
            {"vary": SWEEP["vary"] | {"count": 1}},
            "sweeps.rates.vary.count: invalid value 1: input should be greater than or equal",
        ),
        (
            {"vary": SWEEP["vary"] | {"last": math.inf}},
            "sweeps.rates.vary.last: invalid value inf: input should be a finite number.",
        ),
        ({"experiment": "onn"}, "experiments: no key 'onn'; did you mean 'one'?"),
    ],
)
def test_an_error_in_a_sweep_is_named(folder, sweep, message):
    (folder / "params.yaml").write_text(yaml.safe_dump(params(sweep=sweep)), encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        read_sweep("rates", "embedded")
    assert str(caught.value).startswith(message)


def test_an_unknown_sweep_is_refused_with_the_nearest_one(folder):
    with pytest.raises(ParamsError, match=r"^sweeps: no key 'rate'; did you mean 'rates'\?$"):
        read_sweep("rate", "official")


# labbook show


def test_show_prints_each_value_with_its_origin(tmp_path, monkeypatch):
    values = params(
        {"optimizer": {"lr": 0.02}, "schedule": None, "embedded": {"epochs": 1}},
        {"optimizer": SGD, "threads": 2, "embedded": {"threads": 1}},
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert show("one", "embedded").splitlines()[:22] == [
        "# experiments.one on embedded data",
        "inputs:",
        "  dataset: mnist                # experiments.one.train",
        "  pretrained: none              # experiments.one.train",
        "task: classification            # schema",
        "backend: torch                  # schema",
        "validation: false               # schema",
        "model:",
        "  name: mlp                     # experiments.one.train",
        "  hidden: [10]                  # experiments.one.train",
        "loss:",
        "  name: CrossEntropyLoss        # schema",
        "optimizer:",
        "  name: SGD                     # defaults.A",
        "  lr: 0.02                      # experiments.one.train",
        "  momentum: 0.9                 # defaults.A",
        "schedule: null                  # experiments.one.train",
        "preprocess:",
        "  mean: 0.0                     # schema",
        "  std: 1.0                      # schema",
        "  resize: null                  # schema",
        "augment:",
    ]
    shown = show("one", "embedded")
    assert "epochs: 1                       # experiments.one.train.embedded\n" in shown
    assert "threads: 1                      # defaults.A.embedded\n" in shown
    assert show("one").startswith("# experiments.one on official data\n")
    assert "threads: 2                      # defaults.A\n" in show("one")


@pytest.mark.parametrize("source", ["embedded", "official"])
def test_show_prints_the_settings_as_yaml(repository, monkeypatch, tmp_path, source):
    monkeypatch.chdir(repository)
    values = read()
    blocks = [f"{group}.{name}" for group in ("experiments", "pretrained") for name in values[group]]
    assert len(blocks) > 30
    for block in blocks:
        shown, expected = show(block.partition(".")[2], source), resolve(values, block, source).settings.model_dump()
        (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
        loaded = read(tmp_path / "shown.yaml")
        assert loaded == expected
        assert list(loaded) == list(expected)
        assert all("  # " in line or line.endswith(":") for line in shown.splitlines()[1:])


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
)


@given(
    value=st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc ", min_size=1), inner, max_size=3)
    )
)
def test_any_value_is_shown_as_yaml(value, tmp_path_factory):
    file = tmp_path_factory.mktemp("shown") / "shown.yaml"
    file.write_text(f"key: {show_command._flow(value)}\n", encoding="utf-8")
    assert read(file) == {"key": value}


@pytest.mark.parametrize(
    "text", ["true", "null", "on", "1e-3", "0x10", "a: b", "#", "", "a, b", "[x]", "- a", "é", "'", "~", "a#b"]
)
def test_text_that_yaml_would_misread_is_quoted(text, tmp_path):
    shown = f"key: [{show_command._flow(text)}]\n"
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    assert read(tmp_path / "shown.yaml") == {"key": [text]}


def test_show_prints_the_first_value_of_a_sweep_and_all_values(folder):
    shown = show("rates")
    heading = "# sweeps.rates on official data, at the first value of optimizer.lr: [0.1, 0.2, 0.3, 0.4]"
    assert shown.splitlines()[0] == heading
    assert "  lr: 0.1                       # sweeps.rates.vary\n" in shown
    assert yaml.safe_load(shown) == read_sweep("rates", "official")[0][0][1].model_dump()


def test_show_of_an_unknown_name_names_the_nearest_and_all_others(folder):
    with pytest.raises(SystemExit) as ended:
        main(["show", "rate"])
    assert (
        ended.value.code == "error: rate: no experiment, sweep or pretrained weights; did you mean 'rates'? Known: one, rates."
    )


def test_show_names_invalid_settings(folder):
    (folder / "params.yaml").write_text(yaml.safe_dump(params(defaults={"epoch": 1})), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["show", "one"])
    assert str(ended.value.code).startswith("error: defaults.A.epoch: unknown key; did you mean 'epochs'?")


def test_show_imports_no_slow_package(repository):
    script = (
        "import sys; from labbook.__main__ import main; main(['show', 'mnist_cnn']); "
        "sys.exit(', '.join({'torch', 'numpy', 'dvc', 'scipy'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=repository)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# experiments.mnist_cnn on ")
    assert yaml.safe_load(done.stdout)["model"]["name"] == "cnn"


def test_values_of_these_tests_lack_only_the_other_groups():
    """Otherwise the tests above could pass because of an unrelated error."""
    with pytest.raises(ParamsError) as caught:
        parse_project(params())
    assert str(caught.value).splitlines() == [
        f"{group}: missing. Add it to params.yaml." for group in ("datasets", "derived", "pretrained", "sweeps", "explain")
    ]
