"""`params.yaml`: reading, validation, error messages, and round trips through DVC's YAML writer."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dumps_yaml, load_yaml, parse_yaml_for_update
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labbook.__main__ import main
from labbook.config import check
from labbook.config.check import check_project
from labbook.config.messages import closest
from labbook.config.project import find_problems, parse_project
from labbook.config.reading import look_up, read
from labbook.config.sweep import read_sweep
from labbook.config.train import read_runtime, read_training
from labbook.errors import ParamsError
from labbook.fingerprint.record import Fingerprint
from labbook.io import write_text

KEY = "experiments.mnist_mlp_100"
TRAIN = f"{KEY}.train"
SWEEP = "sweeps.mnist_cnn_dropout"


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets a dotted key."""
    *parents, last = key.split(".")

    def change(values: dict[str, Any]) -> None:
        for step in parents:
            values = values[step]
        values[last] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    """Return a function that removes a dotted key."""
    *parents, last = key.split(".")

    def change(values: dict[str, Any]) -> None:
        for step in parents:
            values = values[step]
        del values[last]

    return change


def refusal() -> str:
    with pytest.raises(ParamsError) as caught:
        check_project()
    return str(caught.value)


def keys(message: str) -> list[str]:
    return [line.partition(": ")[0] for line in message.splitlines()]


def test_params_of_this_repository_are_valid(repository, monkeypatch):
    monkeypatch.chdir(repository)
    project = check_project()
    assert {"mnist_mlp_2x50", "mnist_cnn"} <= set(project.experiments)
    assert find_problems(read()) == []


def test_params_of_the_work_folder_are_valid(workdir):
    assert list(check_project().experiments)[:3] == ["mnist_mlp_100", "mnist_cnn", "mnist_resnet_sgd"]


# Wrong keys, types and values


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        (f"{TRAIN}.schdule", "schedule"),
        (f"{TRAIN}.embeded", "embedded"),
        (f"{TRAIN}.inputs.data_set", "dataset"),
        (f"{TRAIN}.model.hiden", "hidden"),
        (f"{TRAIN}.embedded.epoch", "epochs"),
        (f"{TRAIN}.constraint.hidden_units_at_mst", "hidden_units_at_most"),
        (f"{KEY}.reported.last_tst", "last_test"),
        (f"{KEY}.titel", "title"),
        ("defaults.A.batch_sise", "batch_size"),
        ("defaults.A.constraint.layers_alowed", "layers_allowed"),
        ("defaults.A.model.hiden", "hidden"),
        ("defaults.A.embedded.sed", "seeds"),
        ("defaults.E.batch_sise", "batch_size"),
        ("pretrained.resnet18.train.optimiser", "optimizer"),
        ("pretrained.resnet18.validation_fration", "validation_fraction"),
        ("datasets.mnist.validation_fration", "validation_fraction"),
        ("derived.scenes.made_frm", "made_from"),
        ("data.sorce", "source"),
        ("sed", "seed"),
        ("experiment", "experiments"),
        (f"{SWEEP}.vary.cont", "count"),
        (f"{SWEEP}.train.epoch", "epochs"),
        ("explain.mnist_cnn.chanels", "channels"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_valid_one(edit_params, key, nearest):
    if key == "defaults.A.model.hiden":
        edit_params(put("defaults.A.model", {}))
    edit_params(put(key, 1))
    lines = [line for line in refusal().splitlines() if line.startswith(f"{key}: ")]
    assert len(lines) == (2 if "defaults.A.model" in key else 1)  # experiments of A have an mlp or a cnn, with other keys
    for line in lines:
        assert line.startswith(f"{key}: unknown key; did you mean {nearest!r}? Known keys here: ")
        assert nearest in line.partition("Known keys here: ")[2]


@pytest.mark.parametrize("block", [TRAIN, "defaults.A"])
@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("optimizer.weight_decy", 0.1, "weight_decay"),
        ("schedule.gama", 0.5, "gamma"),
        ("loss.label_smothing", 0.1, "label_smoothing"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_nearest_valid_one(edit_params, block, key, value, nearest):
    component, _, argument = key.partition(".")
    edit_params(lambda values: look_up(values, block).setdefault(component, {}).update({argument: value}))
    lines = [line for line in refusal().splitlines() if line.startswith(f"{block}.{key}: ")]
    assert len(set(lines)) == len(lines) >= 1
    assert all(line.startswith(f"{block}.{key}: unknown argument; did you mean {nearest!r}? ") for line in lines)


def test_a_key_without_a_similar_one_is_refused_with_all_known_keys(edit_params):
    edit_params(put("data.zzz", 1))
    assert refusal() == "data.zzz: unknown key. Known keys here: source."


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (f"{TRAIN}.batch_size", "32", "input should be a valid integer"),
        (f"{TRAIN}.batch_size", 32.5, "input should be a valid integer"),
        (f"{TRAIN}.epochs", True, "input should be a valid integer"),
        (f"{TRAIN}.seeds", True, "input should be a valid integer"),
        (f"{TRAIN}.validation", "yes", "input should be a valid boolean"),
        (f"{TRAIN}.optimizer.lr", "0.1", "input should be a valid number"),
        (f"{TRAIN}.model.hidden", 100, "input should be a valid list"),
        (f"{TRAIN}.model.dropout", True, "input should be a valid number"),
        (f"{TRAIN}.model", "mlp", "expected a mapping of keys to values"),
        (f"{TRAIN}.augment", [1], "expected a mapping of keys to values"),
        (f"{TRAIN}.preprocess", {"std": [1.0, 0.0]}, "a standard deviation must be greater than 0"),
        (f"{KEY}.title", 3, "input should be a valid string"),
        (KEY, None, "expected a mapping of keys to values"),
        ("experiments", ["mnist_mlp_100"], "expected a mapping of keys to values"),
        ("defaults", None, "expected a mapping of keys to values"),
        ("defaults.A", 3, "expected a mapping of keys to values"),
        ("defaults.A.threads", "2", "input should be a valid integer"),
        ("seed", 0.5, "input should be a valid integer"),
    ],
)
def test_a_wrong_type_is_refused_without_conversion(edit_params, key, value, expected):
    edit_params(put(key, value))
    if isinstance(value, dict):
        ((inner, value),) = value.items()
        key = f"{key}.{inner}"
    (line,) = [line for line in refusal().splitlines() if line.startswith(f"{key}: ")]
    assert line.startswith(f"{key}: invalid value {value!r}: {expected}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (f"{TRAIN}.batch_size", 0, "greater than 0"),
        (f"{TRAIN}.epochs", -1, "greater than 0"),
        (f"{TRAIN}.validate_every", 0, "greater than 0"),
        (f"{TRAIN}.seeds", 0, "greater than 0"),
        (f"{TRAIN}.threads", 0, "greater than 0"),
        (f"{TRAIN}.optimizer.lr", 0.0, "greater than 0"),
        (f"{TRAIN}.model.dropout", 1.5, "less than or equal to 1"),
        (f"{TRAIN}.constraint.parameters", 0, "greater than 0"),
        (f"{KEY}.reported.test", 97.8, "less than or equal to 1"),
        ("datasets.mnist.validation_fraction", 0.0, "greater than 0"),
        ("datasets.mnist.validation_fraction", 0.6, "less than or equal to 0.5"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        (f"{SWEEP}.vary.count", 1, "greater than or equal to 2"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(edit_params, key, value, expected):
    edit_params(put(key, value))
    message = refusal()
    assert message.startswith(f"{key}: invalid value {value!r}: ")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("key", [f"{TRAIN}.optimizer.lr", f"{KEY}.reported.seconds_cpu", f"{SWEEP}.vary.last"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_number_that_is_not_finite_is_refused(edit_params, key, value):
    edit_params(put(key, value))
    assert refusal().startswith(f"{key}: invalid value {value!r}: ")


def test_an_item_of_a_list_is_named_by_its_index(edit_params):
    edit_params(put(f"{TRAIN}.model.hidden", [50, 0]))
    assert refusal().startswith(f"{TRAIN}.model.hidden.1: invalid value 0: ")


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "data",
        "data.source",
        "experiments",
        "defaults",
        "datasets.mnist.validation_fraction",
        f"{KEY}.assignment",
        f"{KEY}.train",
        f"{TRAIN}.inputs",
        f"{TRAIN}.inputs.pretrained",
        f"{TRAIN}.model.name",
        f"{TRAIN}.model.hidden",
        f"{TRAIN}.optimizer.lr",
        f"{SWEEP}.vary.key",
    ],
)
def test_only_the_missing_key_is_reported(edit_params, key):
    edit_params(drop(key))
    message = refusal()
    assert message.startswith(f"{key}: missing.")
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_is_refused(workdir, content):
    Path("params.yaml").write_text(content, encoding="utf-8")
    assert refusal() == "params.yaml: the file is empty."


def test_a_misspelt_group_is_refused_with_the_right_name(edit_params):
    edit_params(lambda values: values.update(experiment=values.pop("experiments")))
    first, second = sorted(refusal().splitlines())
    assert first.startswith("experiment: unknown key; did you mean 'experiments'? Known keys here: seed, device, data, ")
    assert second == "experiments: missing. Add it to params.yaml."


@pytest.mark.parametrize("group", ["experiments", "sweeps", "explain", "derived", "pretrained"])
def test_an_empty_group_is_refused(edit_params, group):
    edit_params(put(group, {}))
    assert f"{group}: dictionary should have at least 1 item, not 0." in refusal().splitlines()


def test_all_wrong_keys_are_reported_at_once_one_per_line(edit_params):
    edit_params(put("seed", -1))
    edit_params(put(f"{TRAIN}.batch_size", 0))
    edit_params(put(f"{TRAIN}.optimizer.lr", "fast"))
    edit_params(put("experiments.mnist_resnet_sgd.train.model.name", "residul"))
    edit_params(drop("experiments.mnist_cnn.train.optimizer"))
    edit_params(put("defaults.B.epochs", True))
    edit_params(put("explain.mnist_cnn.steps", 0))
    assert sorted(keys(refusal())) == [
        "experiments.mnist_cnn.train.optimizer",
        f"{TRAIN}.batch_size",
        "experiments.mnist_resnet_sgd.train.model.name",
        "explain.mnist_cnn.steps",
        "seed",
    ]
    edit_params(put(f"{TRAIN}.batch_size", 1))
    assert f"{TRAIN}.optimizer.lr" in keys(refusal())


def test_an_error_in_defaults_is_reported_once(edit_params):
    edit_params(put("defaults.A.constraint", {"parameter": 3}))
    assert keys(refusal()) == ["defaults.A.constraint.parameter"]


def test_a_group_of_defaults_may_be_unused(edit_params):
    edit_params(put("defaults.E", {"epochs": 3}))
    assert not any(experiment.assignment == "E" for experiment in check_project().experiments.values())


# Names


@pytest.mark.parametrize("group", ["experiments", "datasets", "derived", "pretrained", "sweeps", "explain"])
@pytest.mark.parametrize("name", [7, "7", "a.b", "Mnist", "mnistCNN", "", "_a", "a b", "é", "a/b", None, True])
def test_a_name_that_dvc_cannot_handle_is_refused(small_params, group, name):
    values = yaml.safe_load(small_params)
    values[group][name] = next(iter(values[group].values()))
    (message,) = find_problems(values)
    assert message.startswith(
        f"{group}.{int(name) if name is True else name}: invalid value {name!r}: a name consists of lower-case "
    )
    assert message.endswith("begins with a letter (DVC drops numbers silently and fails on dots).")


def test_an_invalid_name_does_not_hide_errors_in_its_block(edit_params):
    edit_params(put("datasets.Mnist", {"validation_fration": 0.1}))
    assert sorted(keys(refusal())) == [
        "datasets.Mnist",
        "datasets.Mnist.validation_fraction",
        "datasets.Mnist.validation_fration",
    ]


@given(name=st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True))
@settings(max_examples=20)
def test_every_name_in_the_documented_form_is_valid(name, small_params):
    values = yaml.safe_load(small_params)
    assume(name not in values["sweeps"] and name not in values["experiments"])
    values["experiments"][name] = values["experiments"]["mnist_mlp_100"]
    assert name in parse_project(values).experiments


@pytest.mark.parametrize(
    ("key", "misspelt", "nearest"),
    [
        ("model", "mpl", "mlp"),
        ("optimizer", "adm", "Adam"),
        ("optimizer", "adamw", "AdamW"),
        ("schedule", "steplr", "StepLR"),
        ("loss", "cross_entropy_loss", "CrossEntropyLoss"),
    ],
)
@pytest.mark.parametrize("block", [TRAIN, "defaults.A"])
def test_an_unknown_component_is_refused_with_the_choices(edit_params, block, key, misspelt, nearest):
    if block.startswith("defaults"):
        edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"].pop(key, None))
    edit_params(lambda values: look_up(values, block).setdefault(key, {}).update(name=misspelt))
    (line,) = [line for line in refusal().splitlines() if line.startswith(f"{block}.{key}.name: ")]
    assert f"{misspelt!r}; did you mean {nearest!r}? " in line
    assert nearest in line.partition("? ")[2]


@pytest.mark.parametrize(
    ("key", "misspelt", "nearest"), [("task", "clasification", "classification"), ("backend", "nunpy", "numpy")]
)
def test_an_unknown_task_or_backend_is_refused_with_the_choices(edit_params, key, misspelt, nearest):
    edit_params(put(f"{TRAIN}.{key}", misspelt))
    assert refusal().startswith(f"{TRAIN}.{key}: ")
    assert f"did you mean {nearest!r}?" in refusal()


@pytest.mark.parametrize(
    ("group", "name", "nearest"),
    [("datasets", "mmist", "mnist"), ("derived", "scene", "scenes"), ("pretrained", "resnet1", "resnet18")],
)
def test_a_block_without_a_file_is_refused_with_the_choices(edit_params, group, name, nearest):
    edit_params(lambda values: values[group].update({name: next(iter(values[group].values()))}))
    family = group.removesuffix("s")
    assert refusal().startswith(f"{group}.{name}: unknown {family} {name!r}; did you mean {nearest!r}? Known: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            f"{TRAIN}.inputs.dataset",
            "mnits",
            "'mnits' is not a block of datasets or derived; did you mean 'mnist'? Known: mnist, ",
        ),
        (
            f"{TRAIN}.inputs.dataset",
            "MNIST",
            "'MNIST' is not a block of datasets or derived; did you mean 'mnist'? Known: mnist, ",
        ),
        (
            f"{TRAIN}.inputs.pretrained",
            "resnet",
            "'resnet' is not a block of pretrained; did you mean 'resnet18'? Known: none, ",
        ),
        ("derived.scenes.made_from", "mnst", "'mnst' is not a block of datasets; did you mean 'mnist'? Known: mnist, "),
        (
            "pretrained.resnet18.train.inputs.dataset",
            "scenes",
            "'scenes' is not a block of datasets or derived. Known: mnist, ",
        ),
        ("pretrained.resnet18.train.inputs.pretrained", "resnet18", "'resnet18' is not a block of pretrained. Known: none."),
        (f"{KEY}.assignment", "F", "'F' is not a block of defaults. Known: A, A_principles, B, C, D, E."),
        (f"{SWEEP}.assignment", "a", "'a' is not a block of defaults; did you mean 'A'? Known: A, "),
        (f"{SWEEP}.experiment", "mnist_cn", "'mnist_cn' is not a block of experiments; did you mean 'mnist_cnn'? Known: "),
        ("explain.mnist_cn", {}, "'mnist_cn' is not a block of experiments; did you mean 'mnist_cnn'? Known: "),
    ],
)
def test_a_reference_to_a_missing_block_is_refused_with_the_known_ones(edit_params, key, value, message):
    edit_params(put(key, value))
    assert refusal().startswith(f"{key}: {message}")


def test_unknown_defaults_are_refused(edit_params):
    edit_params(put("defaults.F", {}))
    assert refusal().startswith("defaults.F: invalid value 'F': input should be 'A', 'A_principles', 'B', 'C', 'D' or 'E'")


@pytest.mark.parametrize(
    ("group", "name", "copied", "message"),
    [
        (
            "sweeps",
            "mnist_cnn",
            "mnist_cnn_dropout",
            "sweeps.mnist_cnn: an experiment has this name already. Rename one of them.",
        ),
        ("derived", "mnist", "scenes", "derived.mnist: a dataset has this name already. Rename one of them."),
        ("pretrained", "none", "resnet18", "pretrained.none: `none` means weights drawn at random. Choose another name."),
        (
            "experiments",
            "exercises",
            "mnist_cnn",
            "experiments.exercises: metrics/exercises.json is the file of the stage exercises.",
        ),
        (
            "experiments",
            "gradcheck",
            "mnist_cnn",
            "experiments.gradcheck: metrics/gradcheck.json is the file of the stage gradcheck.",
        ),
    ],
)
def test_an_ambiguous_name_is_refused(edit_params, group, name, copied, message):
    edit_params(lambda values: values[group].update({name: values[group][copied]}))
    assert refusal().splitlines()[0].startswith(message)


@pytest.mark.parametrize("value", ["official", "embedded"])
def test_the_data_source_is_one_of_two(edit_params, value):
    edit_params(put("data.source", value))
    assert check_project().source == value
    edit_params(put("data.source", value[:-1]))
    assert refusal() == (
        f"data.source: invalid value {value[:-1]!r}: input should be 'official' or 'embedded'; did you mean {value!r}?"
    )


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_known_devices_are_valid(edit_params, device):
    edit_params(put("device", device))
    assert check_project().device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "CPU", "cpu ", "", 0])
def test_unknown_devices_are_refused(edit_params, device):
    edit_params(put("device", device))
    assert refusal().startswith(f"device: invalid value {device!r}: ")


# Settings that contradict each other


@pytest.mark.parametrize("changes", [{"select": "best_val_loss"}, {"select": "last", "early_stopping": {"patience": 3}}])
def test_selection_and_early_stopping_need_validation(edit_params, changes):
    edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"].update(changes))
    check_project()
    edit_params(put(f"{TRAIN}.validation", False))
    message = refusal()
    assert message.startswith(f"{TRAIN}: ")
    assert message.endswith(" needs validation: true.")


@pytest.mark.parametrize("model", [{"init": "normal"}, {"init_std": 0.1}])
def test_normal_weights_of_an_mlp_and_their_deviation_require_each_other(edit_params, model):
    edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"]["model"].update(model))
    assert refusal() == f"{TRAIN}.model: init: normal and init_std require each other."


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"kind": "words"}, "kind: words needs a quote"),
        ({"kind": "over"}, "kind: over needs test, the reported test accuracy"),
        ({"kind": "almost", "train": 1.0}, "kind: almost needs test, the reported test accuracy"),
    ],
)
def test_a_reported_result_without_the_value_of_its_kind_is_refused(edit_params, reported, expected):
    edit_params(put(f"{KEY}.reported", reported))
    assert refusal() == f"{KEY}.reported: {expected}."


@pytest.mark.parametrize(
    ("changes", "key", "actual", "expected"),
    [
        ({"model": {"name": "cnn", "channels": [4], "pools": 1}}, "model.name", "cnn", "mlp"),
        ({"inputs": {"dataset": "rings"}}, "inputs.dataset", "rings", "mnist"),
        ({"inputs": {"pretrained": "resnet18"}}, "inputs.pretrained", "resnet18", "none"),
        ({"optimizer": {"name": "Adam", "lr": 0.1}}, "optimizer.name", "Adam", "SGD"),
        ({"backend": "numpy"}, "backend", "numpy", "torch"),
        ({"schedule": None}, "schedule.name", None, "MultiStepLR"),
    ],
)
def test_embedded_data_has_the_same_components(edit_params, changes, key, actual, expected):
    edit_params(put(f"{TRAIN}.embedded", changes))
    assert refusal() == f"{TRAIN}.embedded.{key}: invalid value {actual!r}: must be the same as on official data, {expected!r}."


@pytest.mark.parametrize(("key", "value"), [("inputs", {"dataset": "rings"}), ("schedule", None), ("task", "segmentation")])
def test_embedded_data_has_the_same_components_by_default(edit_params, key, value):
    edit_params(put("defaults.A.embedded", {key: value}))
    first, *others = refusal().splitlines()
    assert first.startswith(f"defaults.A.embedded.{key}")
    assert "must be the same as on official data" in first
    assert all(line.startswith(("defaults.A.embedded.", "explain.")) for line in others)


def test_an_embedded_default_component_that_no_experiment_has_is_refused(edit_params):
    edit_params(put("defaults.A.embedded", {"model": {"name": "mpl", "hidden": [3]}, "optimizer": {"name": "SGD", "lr": 0.1}}))
    assert refusal() == "defaults.A.embedded.model.name: no experiment of A has 'mpl'; did you mean 'mlp'?"
    edit_params(put("defaults.A.embedded.model.name", "mlp"))
    check_project()


def test_inputs_must_be_in_the_block_where_dvc_reads_them(edit_params):
    edit_params(
        lambda values: values["defaults"]["A"].update(inputs=values["experiments"]["mnist_mlp_100"]["train"].pop("inputs"))
    )
    assert refusal().splitlines() == [
        f"defaults.A.inputs.{name}: dvc.yaml looks for it in {TRAIN}.inputs.{name}. Move it there."
        for name in ("dataset", "pretrained")
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("region", "3", "explain.mnist_cnn.region: set it if and only if the task is segmentation; the task of mnist_cnn is "),
        ("image", -1, "explain.mnist_cnn.image: invalid value -1: "),
        ("layer", 1.5, "explain.mnist_cnn.layer: invalid value 1.5: "),
        ("channels", [], "explain.mnist_cnn.channels: invalid value []: "),
        ("channels", [1, 1], "explain.mnist_cnn: channels has a duplicate item."),
        ("attributions", ["grad"], "explain.mnist_cnn.attributions.0: invalid value 'grad': input should be 'saliency', "),
    ],
)
def test_settings_of_an_explanation_must_fit_its_experiment(edit_params, key, value, message):
    edit_params(put(f"explain.mnist_cnn.{key}", value))
    assert refusal().startswith(message)


def test_explaining_no_image_is_refused(edit_params):
    edit_params(lambda values: values["explain"]["mnist_cnn"].update(correct=0, wrong=0))
    assert refusal() == "explain.mnist_cnn: correct and wrong are both 0; set one of them to 1 or more."


def test_points_are_not_explained(edit_params):
    edit_params(put("explain.rings_relu_zero", {}))
    assert refusal() == "explain.rings_relu_zero: points in a plane have no pixels to attribute. Remove the block."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "model.dropot"}, f"{SWEEP}.vary.model.dropot: unknown key; did you mean 'dropout'? Known keys here: "),
        ({"key": "optimizer.momentm"}, f"{SWEEP}.vary.optimizer.momentm: unknown argument; did you mean 'momentum'? "),
        ({"key": "modl.dropout"}, f"{SWEEP}.vary.modl: unknown key; did you mean 'model'? Known keys here: "),
        ({"key": "batch_size"}, f"{SWEEP}.vary.batch_size: invalid value 0.0: input should be a valid integer."),
        ({"last": 1.5}, f"{SWEEP}.vary.model.dropout: invalid value 1.16666666667: input should be less than or equal to 1."),
        ({"first": 0.5, "last": 0.5}, f"{SWEEP}.vary: 10 values from 0.5 to 0.5 are not all different."),
    ],
)
def test_a_sweep_that_its_experiment_cannot_train_is_refused(edit_params, changes, message):
    if changes == {"key": "optimizer.momentm"}:  # the experiment's own optimizer, Adam, has no momentum
        edit_params(put("experiments.mnist_cnn.train.optimizer", {"name": "SGD", "lr": 0.1}))
        edit_params(put("experiments.mnist_cnn.train.constraint", {}))
    edit_params(lambda values: values["sweeps"]["mnist_cnn_dropout"]["vary"].update(changes))
    assert refusal().startswith(message)


def test_only_experiments_may_train_with_several_processes(edit_params):
    edit_params(put("experiments.mnist_cnn.train.world_size", 2))
    assert refusal() == (
        "sweeps.mnist_cnn_dropout.train.world_size: experiments.mnist_cnn.train.world_size is 2, "
        "and only experiments train with several processes. Set 1 here."
    )
    edit_params(put("sweeps.mnist_cnn_dropout.train.world_size", 1))
    check_project()
    edit_params(put("pretrained.resnet18.train.world_size", 3))
    assert keys(refusal()) == ["pretrained.resnet18.train.world_size"]


def test_a_sweep_may_vary_a_setting_that_its_experiment_omits(edit_params):
    edit_params(put(f"{SWEEP}.vary", {"key": "augment.rotation", "first": 0.0, "last": 90.0, "count": 3}))
    check_project()
    assert [settings.augment.rotation for _, settings in read_sweep("mnist_cnn_dropout", "embedded")[0]] == [0.0, 45.0, 90.0]


# Reading YAML


@pytest.mark.parametrize(
    "written",
    [
        *("1e-3", "5E-4", "1.5e+2", "2e0", "+1e-3", "-2E3", "0.001", ".5", "5.", ".5e+3", ".5e3", "1_0.5", "0.1e-10"),
        *("1_000", "010", "00", "0o17", "-0o7", "0x1F", "0b101", ".inf", "-.INF", ".nan", "2024-01-01"),
        *("e-3", "1e", "1e-3x", "v1e3", "_1", "1_", "1.0.0", "'1e-3'", '"on"', "on", "off", "yes", "no", "y", "tRUE", "nUll"),
        *("true", "True", "TRUE", "false", "null", "Null", "~"),
    ],
)
def test_scalars_are_read_as_dvc_reads_them(tmp_path, written):
    """Otherwise a stage could train with a different value than the one that DVC compares."""
    file = tmp_path / "params.yaml"
    file.write_text(f"key: {written}\nlist: [{written}]\n", encoding="utf-8")
    values, expected = read(file), load_yaml(str(file))
    assert repr(values) == repr(expected)
    assert type(values["key"]) is type(expected["key"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("5E-4", 0.0005),
        ("1.5e+2", 150.0),
        (".5", 0.5),
        ("010", 10),
        ("0x10", 16),
        ("on", "on"),
        ("1:30", "1:30"),
    ],
)
def test_scalars_have_the_types_of_yaml_1_2(tmp_path, written, value):
    (tmp_path / "params.yaml").write_text(f"key: {written}\n", encoding="utf-8")
    actual = read(tmp_path / "params.yaml")["key"]
    assert (actual, type(actual)) == (value, type(value))


def test_scientific_notation_is_valid_as_a_learning_rate(workdir):
    file = workdir / "params.yaml"
    file.write_text(re.sub(r"lr: \S+", "lr: 7e-3", file.read_text(encoding="utf-8")), encoding="utf-8")
    train, _ = read_training("mnist_mlp_100", "embedded")
    assert train.optimizer.model_dump()["lr"] == 0.007


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seed: 0\nseed: 1\n", 2, "seed"),
        ("experiments:\n  a: {lr: 1}\n  b: {lr: 1}\n  a: {lr: 2}\n", 4, "a"),
        ("train: {lr: 1, epochs: 2, lr: 3}\n", 1, "lr"),
    ],
)
def test_a_duplicate_key_is_refused_with_its_line(tmp_path, text, line, key):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        read(tmp_path / "params.yaml")
    assert str(caught.value) == f'{tmp_path / "params.yaml"}, line {line}: duplicate key "{key}".'


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1\n",
        b"a: b: c\n",
        b"\xff\xfe\x00",
        b"\ta: 1\n",
        b"a: !!python/object:os.x 1\n",
        b"a: 1\n---\nb: 2\n",
    ],
)
def test_a_file_that_is_not_yaml_is_refused(tmp_path, content):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: cannot be read as YAML: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "kind"), [("- 1\n- 2\n", "list"), ("seed\n", "str"), ("3\n", "int")])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, content, kind):
    file = tmp_path / "params.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"params\.yaml: expected a mapping of keys to values, found a {kind}\.$"):
        read(file)


def test_a_missing_file_is_refused_with_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for reader in (check_project, lambda: read_training("a", "embedded"), lambda: read_sweep("x", "embedded")):
        with pytest.raises(ParamsError, match=r"^params\.yaml: not found\. Run from the root of the repository\.$"):
            reader()


def test_a_missing_seed_is_reported_by_every_stage(edit_params):
    edit_params(drop("seed"))
    with pytest.raises(ParamsError, match=r"^params\.yaml: no key 'seed'"):
        read_runtime(read())


@pytest.mark.parametrize(
    ("name", "names", "end"),
    [
        ("Schedule", ["schedule", "seeds"], "; did you mean 'schedule'?"),
        ("cross_entropy_loss", ["CrossEntropyLoss"], "; did you mean 'CrossEntropyLoss'?"),
        ("xyz", ["schedule"], "."),
        ("x", [], "."),
    ],
)
def test_the_nearest_name_ignores_case_and_underscores(name, names, end):
    assert closest(name, names) == end


# DVC's YAML writer


def test_dvc_would_not_reformat_params(repository):
    """Otherwise `dvc exp run -S` and `dvc exp apply` would change unrelated lines."""
    content = (repository / "params.yaml").read_bytes()
    rewritten = dumps_yaml(parse_yaml_for_update(content.decode(), "params.yaml")).encode()
    assert rewritten == content, "DVC's YAML writer would change params.yaml; format it with `dumps_yaml`"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("experiments.mnist_cnn.train.optimizer.lr=0.002", "      optimizer: {name: Adam, lr: 0.002, weight_decay: 0.0001}"),
        ("defaults.B.batch_size=64", "    batch_size: 64"),
        ("experiments.mnist_cnn.train.model.dropout=0.2", "          dropout: 0.2}"),
        ("experiments.mnist_mlp_200.train.model.hidden.1=60", "      model: {name: mlp, hidden: [150, 60]}"),
        (
            "experiments.mnist_cnn_adam_tuned.train.optimizer.betas=[0.8,0.9]",
            "      optimizer: {name: Adam, lr: 0.0005, betas: [0.8, 0.9]}",
        ),
        ("defaults.A_principles.watch.0=dead_units", "    - dead_units"),
        ("seed=1", "seed: 1"),
        ("+experiments.mnist_cnn.train.epochs=5", "      epochs: 5"),
    ],
)
def test_an_override_of_dvc_exp_run_changes_one_line(repository, tmp_path, override, line):
    before = (repository / "params.yaml").read_text(encoding="utf-8")
    file = tmp_path / "params.yaml"
    file.write_text(before, encoding="utf-8")
    apply_overrides(file, [override])
    after = file.read_text(encoding="utf-8").splitlines()
    number = next(
        number for number, text in enumerate(after) if number >= len(before.splitlines()) or text != before.splitlines()[number]
    )
    removed = 0 if override.startswith("+") else 1
    assert after[number].partition("  #")[0].rstrip() == line
    assert after[:number] + after[number + 1 :] == before.splitlines()[:number] + before.splitlines()[number + removed :]
    assert read(file) != yaml.safe_load(before)


def test_params_have_at_most_550_lines(repository):
    assert len((repository / "params.yaml").read_text(encoding="utf-8").splitlines()) <= 550


# labbook check


def run_check(capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """Run `labbook check`; return what it prints, and its exit status or message."""
    try:
        main(["check"])
    except SystemExit as ended:
        return capsys.readouterr().out, ended.code
    return capsys.readouterr().out, 0


def record(path: str, packages: dict[str, str]) -> None:
    write_text(Path("code") / path, Fingerprint({"stages/train.py": "0"}, packages).to_text())


def test_check_counts_the_blocks_of_valid_params(workdir, capsys):
    assert run_check(capsys) == ("params.yaml is valid: 5 experiments, 1 sweep, 3 datasets\n", 0)


def test_check_fails_with_one_line_per_problem(edit_params, capsys):
    edit_params(put(f"{TRAIN}.schdule", {"name": "StepLR"}))
    edit_params(put("defaults.A.model", {"hiden": [3]}))
    printed, message = run_check(capsys)
    assert printed == ""
    assert keys(str(message)) == [f"{TRAIN}.schdule", "defaults.A.model.hiden"]


def test_check_reports_changed_package_versions_and_the_stages_to_run_again(workdir, capsys):
    version = __import__("importlib.metadata").metadata.version("pydantic")
    record("train/mnist_cnn.txt", {"torch": "1.0.0", "pydantic": version})
    record("train/mnist_mlp_100.txt", {"torch": "1.0.0"})
    record("report.txt", {"torch": "1.0.0"})
    record("fetch/mnist.txt", {"pydantic": version})
    printed, message = run_check(capsys)
    installed = __import__("importlib.metadata").metadata.version("torch").partition("+")[0]
    assert printed == "params.yaml is valid: 5 experiments, 1 sweep, 3 datasets\n"
    assert message == (
        f"torch: {installed} is installed, and the stages were recorded with 1.0.0. Install 1.0.0, or accept {installed} with "
        "`dvc repro --force --single-item code`; then these stages run again: report (1), train (2)."
    )


def test_check_accepts_recorded_package_versions(workdir, capsys):
    version = __import__("importlib.metadata").metadata.version("pydantic")
    record("train/mnist_cnn.txt", {"pydantic": version})
    assert run_check(capsys)[1] == 0


def test_check_reports_invalid_settings_and_changed_packages_together(edit_params, capsys):
    edit_params(put("seed", -1))
    record("report.txt", {"torch": "1.0.0"})
    assert keys(str(run_check(capsys)[1])) == ["seed", "torch"]


def test_check_names_a_damaged_fingerprint(workdir, capsys):
    write_text(Path("code/report.txt"), "nothing")
    assert str(run_check(capsys)[1]).startswith("code/report.txt: not a fingerprint ")


def test_check_names_a_component_that_cannot_be_imported_or_is_incomplete(workdir, monkeypatch):
    def find(family: str, name: str, key: str) -> Any:
        if name == "mlp":
            raise SyntaxError("invalid syntax\n(mlp.py, line 3)")
        return type("module", (), dict.fromkeys(check.REQUIRED[family][:-1]))

    monkeypatch.setattr(check, "find", find)
    lines = refusal().splitlines()
    assert "src/labbook/models/mlp.py: cannot be imported: SyntaxError: invalid syntax (mlp.py, line 3)" in lines
    assert "src/labbook/models/cnn.py: does not define build. See the other files in its folder." in lines
    assert len(lines) > 10


# Stages


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{TRAIN}.schdule", {"name": "StepLR"}, f"{TRAIN}.schdule: unknown key; did you mean 'schedule'?"),
        (f"{TRAIN}.optimizer.lr", -1.0, f"{TRAIN}.optimizer.lr: invalid value -1.0: "),
        (f"{TRAIN}.model.name", "mpl", f"{TRAIN}.model.name: unknown model 'mpl'; did you mean 'mlp'?"),
        ("defaults.A.batch_sise", 3, "defaults.A.batch_sise: unknown key; did you mean 'batch_size'?"),
        ("defaults.A.batch_size", 0, "defaults.A.batch_size: invalid value 0: "),
    ],
)
def test_train_stage_ends_with_one_message_and_no_traceback(prepared, edit_params, run_stage, key, value, message):
    edit_params(put(key, value))
    done = run_stage("train", "mnist_mlp_100")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not Path("models").exists()
