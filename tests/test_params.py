import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labbook.core.errors import ParamsError
from labbook.core.reading import read
from labbook.core.settings import read_training
from labbook.params.check import check_project
from labbook.params.project import read_project
from labbook.params.seeds import read_seeds
from labbook.params.sweep import Vary, read_sweep

KEY = "experiments.mnist_mlp_100"
SWEEP = "sweeps.mnist_cnn_dropout"


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Set a dotted key."""
    *parents, last = key.split(".")

    def change(values: dict[str, Any]) -> None:
        for step in parents:
            values = values[step]
        values[last] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    """Remove a dotted key."""
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


def test_params_of_this_repository_are_valid(repository, monkeypatch):
    monkeypatch.chdir(repository)
    project = check_project()
    assert {"mnist_mlp_2x50", "mnist_cnn"} <= set(project.experiments)


def test_params_of_the_work_folder_are_valid(workdir):
    assert list(check_project().experiments)[:3] == ["mnist_mlp_100", "mnist_cnn", "mnist_resnet_sgd"]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        (f"{KEY}.train.schdule", "schedule"),
        (f"{KEY}.train.optimizer.weight_decy", "weight_decay"),
        (f"{KEY}.train.model.hiden", "hidden"),
        (f"{KEY}.train.constraint.hidden_units_at_mst", "hidden_units_at_most"),
        (f"{KEY}.reported.test_acuracy", "test_accuracy"),
        (f"{KEY}.tsk", "task"),
        ("datasets.mnist.validation_fration", "validation_fraction"),
        ("data.sorce", "source"),
        ("sed", "seed"),
        (f"{SWEEP}.vary.cont", "count"),
    ],
)
def test_misspelt_key_is_refused_with_the_nearest_valid_one(edit_params, key, near):
    edit_params(put(key, 1))
    message = refusal()
    assert f"{key}: unknown key; did you mean {near!r}? Known keys here: " in message
    assert near in message.partition("Known keys here: ")[2]


def test_key_like_no_other_is_refused_with_all_that_there_are(edit_params):
    edit_params(put("data.zzz", 1))
    assert refusal() == "data.zzz: unknown key. Known keys here: source."


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        (f"{KEY}.train.batch_size", "32", "valid integer"),
        (f"{KEY}.train.batch_size", 32.0, "valid integer"),
        (f"{KEY}.train.epochs", True, "valid integer"),
        (f"{KEY}.train.validation", "yes", "valid boolean"),
        (f"{KEY}.train.optimizer.lr", "fast", "valid number"),
        (f"{KEY}.train.model.hidden", 100, "valid list"),
        (f"{KEY}.train.model", "mlp", "valid dictionary"),
        (f"{KEY}.title", 3, "valid string"),
        ("experiments", ["mnist_mlp_100"], "valid dictionary"),
        ("seed", 0.5, "valid integer"),
    ],
)
def test_wrong_type_is_refused_without_conversion(edit_params, key, value, wanted):
    edit_params(put(key, value))
    message = refusal()
    assert message.startswith(f"{key}: {value!r} will not do: ")
    assert wanted in message


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        (f"{KEY}.train.batch_size", 0, "greater than 0"),
        (f"{KEY}.train.epochs", -1, "greater than 0"),
        (f"{KEY}.train.validate_every", 0, "greater than 0"),
        (f"{KEY}.train.optimizer.lr", 0.0, "greater than 0"),
        (f"{KEY}.train.optimizer.weight_decay", -0.1, "greater than or equal to 0"),
        (f"{KEY}.train.model.dropout", 1.5, "less than or equal to 1"),
        (f"{KEY}.train.schedule.factor", 1.0, "less than 1"),
        (f"{KEY}.train.constraint.parameters", 0, "greater than 0"),
        (f"{KEY}.reported.test_accuracy", 97.8, "less than or equal to 1"),
        ("datasets.mnist.validation_fraction", 0.0, "greater than 0"),
        ("datasets.mnist.validation_fraction", 0.6, "less than or equal to 0.5"),
        ("threads", 0, "greater than 0"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        (f"{SWEEP}.vary.count", 1, "greater than or equal to 2"),
    ],
)
def test_value_out_of_range_is_refused_with_the_range(edit_params, key, value, wanted):
    edit_params(put(key, value))
    message = refusal()
    assert message.startswith(f"{key}: {value!r} will not do: ")
    assert wanted in message


def test_item_of_a_list_is_named_by_its_place(edit_params):
    edit_params(put(f"{KEY}.train.model.hidden", [50, 0]))
    assert refusal().startswith(f"{KEY}.train.model.hidden.1: 0 will not do: ")


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "data",
        "data.source",
        "experiments",
        "datasets.mnist.validation_fraction",
        f"{KEY}.task",
        f"{KEY}.train",
        f"{KEY}.train.keep",
        f"{KEY}.train.loss",
        f"{KEY}.train.model.name",
        f"{KEY}.train.model.hidden",
        f"{KEY}.train.optimizer.lr",
        f"{KEY}.train.schedule.factor",
        f"{SWEEP}.vary.key",
    ],
)
def test_missing_key_is_named(edit_params, key):
    edit_params(drop(key))
    assert f"{key}: missing." in refusal().splitlines()[0]


@pytest.mark.parametrize(
    ("family", "wrong", "near"),
    [
        ("model", "mpl", "mlp"),
        ("optimizer", "adm", "adam"),
        ("schedule", "stp", "step"),
        ("loss", "cross_entropie", "cross_entropy"),
        ("augmentation", "nonne", "none"),
        ("stopping", "pateince", "patience"),
    ],
)
def test_unknown_part_is_refused_with_the_choices(edit_params, repository, family, wrong, near):
    edit_params(put(f"{KEY}.train.{family}.name", wrong))
    message = refusal()
    assert message.startswith(f"{KEY}.train.{family}.name: no {family} is called {wrong!r}; did you mean {near!r}?")
    folder = message.rpartition("a new file in ")[2] or message.rpartition("is a new file in ")[2]
    there = {file.stem for file in (repository / folder.rstrip(".")).glob("[a-z]*.py")}
    assert near in there
    assert all(name in message for name in there)


def test_unknown_task_is_refused_with_the_choices(edit_params):
    edit_params(put(f"{KEY}.task", "clasification"))
    message = refusal()
    assert message.startswith(f"{KEY}.task: no task is called 'clasification'; did you mean 'classification'? There are: ")


def test_unknown_dataset_is_refused_with_the_choices(edit_params):
    edit_params(put("datasets.mmist", {"validation_fraction": 0.1}))
    message = refusal()
    assert message.startswith("datasets.mmist: no dataset is called 'mmist'; did you mean 'mnist'? There are: ")


@pytest.mark.parametrize("block", [KEY, SWEEP])
def test_dataset_that_does_not_stand_under_datasets_is_refused(edit_params, block):
    edit_params(put(f"{block}.train.dataset", "mnst"))
    message = refusal()
    assert message.startswith(f"{block}.train.dataset: 'mnst' ")
    assert "did you mean 'mnist'? There are: mnist" in message


@pytest.mark.parametrize("value", ["official", "embedded"])
def test_data_source_is_one_of_two(edit_params, value):
    edit_params(put("data.source", value))
    assert check_project().data.source == value
    edit_params(put("data.source", value[:-1]))
    assert refusal().startswith(f"data.source: {value[:-1]!r} will not do: input should be 'embedded' or 'official'")


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"])
def test_known_device_names_are_taken(edit_params, device):
    edit_params(put("device", device))
    assert check_project().device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "CPU", "cpu ", "", 0])
def test_unknown_device_name_is_refused(edit_params, device):
    edit_params(put("device", device))
    assert refusal().startswith(f"device: {device!r} will not do: ")


@pytest.mark.parametrize("group", ["experiments", "datasets", "sweeps", "pairs", "explain", "seeds"])
@pytest.mark.parametrize("name", [7, "7", "a.b", "Mnist", "mnistCNN", "", "_a", "a b", "é", "a/b", None, True])
def test_name_that_dvc_cannot_take_is_refused(edit_params, group, name):
    edit_params(lambda values: values[group].update({name: next(iter(values[group].values()))}))
    message = refusal()
    assert message.startswith(f"{group}: {name!r} is no name that DVC can take.")
    assert "lower-case letters, digits, _ and -" in message


@given(name=st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True))
@settings(max_examples=20)
def test_every_name_in_the_documented_form_is_taken(name, tmp_path_factory, small_params):
    values = yaml.safe_load(small_params)
    assume(name not in values["sweeps"] and name not in values["experiments"])
    values["experiments"][name] = values["experiments"]["mnist_mlp_100"]
    file = tmp_path_factory.mktemp("params") / "params.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert name in read_project(file).experiments


@pytest.mark.parametrize("keep", ["best_validation_loss", "best_validation_accuracy"])
def test_keeping_the_best_on_validation_needs_validation(edit_params, keep):
    edit_params(put(f"{KEY}.train.keep", keep))
    check_project()
    edit_params(put(f"{KEY}.train.validation", False))
    message = refusal()
    assert message.startswith(f"{KEY}.train")
    assert f"keep: {keep} needs validation: true" in message


def test_stopping_early_needs_validation(edit_params):
    edit_params(put(f"{KEY}.train.stopping", {"name": "patience", "validations": 3}))
    edit_params(put("seeds.mnist_mlp_100.stopping", "patience"))
    check_project()
    edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"].update(validation=False, keep="last"))
    message = refusal()
    assert message.startswith(f"{KEY}.train")
    assert "stopping: patience needs validation: true" in message


def test_all_wrong_keys_are_told_at_once_one_a_line(edit_params):
    edit_params(put("seed", -1))
    edit_params(put(f"{KEY}.train.batch_size", 0))
    edit_params(drop("experiments.mnist_cnn.train.keep"))
    keys = [line.partition(":")[0] for line in refusal().splitlines()]
    assert keys == ["seed", f"{KEY}.train.batch_size", "experiments.mnist_cnn.train.keep"]


def test_all_wrong_parts_are_told_at_once_one_a_line(edit_params):
    edit_params(put(f"{KEY}.train.model.name", "mpl"))
    edit_params(put("experiments.mnist_resnet_sgd.train.optimizer.lr", -1.0))
    keys = [line.partition(":")[0] for line in refusal().splitlines()]
    assert keys == [f"{KEY}.train.model.name", "experiments.mnist_resnet_sgd.train.optimizer.lr"]


def test_sweep_of_an_unknown_key_is_refused(edit_params):
    edit_params(put(f"{SWEEP}.vary.key", "model.dropot"))
    assert refusal() == f"{SWEEP}.train.model holds no 'dropot'; did you mean 'dropout'?"


def test_sweep_to_a_value_that_the_part_refuses_is_refused(edit_params):
    edit_params(put(f"{SWEEP}.vary.last", 1.5))
    message = refusal()
    assert f"{SWEEP} at 1.5: {SWEEP}.train.model.dropout: 1.5 will not do: " in message
    assert "less than or equal to 1" in message


def test_sweep_of_a_key_that_takes_no_fractions_is_refused(edit_params):
    edit_params(put(f"{SWEEP}.vary.key", "batch_size"))
    assert refusal().startswith(f"{SWEEP}.train.batch_size: ")


def test_sweep_with_the_name_of_an_experiment_is_refused(edit_params):
    edit_params(lambda values: values["sweeps"].update(mnist_cnn=values["sweeps"]["mnist_cnn_dropout"]))
    assert refusal().startswith("sweeps.mnist_cnn: an experiment has this name already.")


def test_sweep_of_an_unknown_experiment_is_refused(edit_params):
    edit_params(put(f"{SWEEP}.experiment", "mnist_cn"))
    assert "sweeps.mnist_cnn_dropout.experiment: there is no experiment 'mnist_cn'; did you mean 'mnist_cnn'?" in refusal()


@pytest.mark.parametrize("key", ["batch_size", "optimizer.lr", "model.channels"])
def test_sweep_that_differs_from_its_experiment_in_more_than_its_key_is_refused(edit_params, key):
    edit_params(put(f"{SWEEP}.train.{key}", {"batch_size": 77, "optimizer.lr": 0.7, "model.channels": [3, 4, 5]}[key]))
    block = key.partition(".")[0]
    assert refusal().startswith(f"{SWEEP}.train.{block}: differs from experiments.mnist_cnn.train.{block}. ")


def test_sweep_may_train_shorter_than_its_experiment(edit_params):
    edit_params(put(f"{SWEEP}.train.epochs", 1))
    edit_params(put(f"{SWEEP}.train.embedded", {"epochs": 1}))
    edit_params(put(f"{SWEEP}.train.model.dropout", 0.7))
    check_project()


@pytest.mark.parametrize("name", ["mnist_cnn", "mnist_cnn_dropout"])
def test_pair_with_the_name_of_what_has_checkpoints_too_is_refused(edit_params, name):
    edit_params(lambda values: values["pairs"].update({name: values["pairs"]["rings_relu"]}))
    assert refusal().startswith(f"pairs.{name}: an experiment or a sweep has this name already.")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("first", "rings_relu_rando", "'rings_relu_rando' does not stand under experiments; did you mean 'rings_relu_random'?"),
        ("second", "mnist_cnn", "experiments.mnist_cnn.task is classification, and a pair here needs plane."),
        ("dataset", "mnist", "experiments.rings_relu_random.train.dataset is rings, and a pair here needs mnist."),
    ],
)
def test_pair_is_of_two_experiments_on_one_plane(edit_params, key, value, wanted):
    edit_params(put(f"pairs.rings_relu.{key}", value))
    message = refusal()
    assert message.startswith(f"pairs.rings_relu.{'first' if key == 'dataset' else key}: ")
    assert wanted in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dataset", "rings", "explain.mnist_cnn.dataset: is rings, and experiments.mnist_cnn has mnist. Make them the same."),
        ("model", "mlp", "explain.mnist_cnn.model: is mlp, and experiments.mnist_cnn has cnn. Make them the same."),
        ("augmentation", "transforms", "explain.mnist_cnn.augmentation: is transforms, and experiments.mnist_cnn has none. "),
        ("look.region", "3", "explain.mnist_cnn.look.region: goes with task: segmentation, and that of mnist_cnn is classif"),
        ("look.image", -1, "explain.mnist_cnn.look.image"),
        ("look.layer", 1.5, "explain.mnist_cnn.look.layer: 1.5 will not do: "),
        ("look.channels", [], "explain.mnist_cnn.look.channels: [] will not do: "),
        ("look.channels", [1, 1], "explain.mnist_cnn.look: channels names something twice."),
        (
            "look.attributions",
            ["grad"],
            "explain.mnist_cnn.look.attributions.0: 'grad' will not do: input should be 'saliency', ",
        ),
        ("look.chanels", [1], "explain.mnist_cnn.look.chanels: unknown key; did you mean 'channels'?"),
    ],
)
def test_what_is_explained_fits_its_experiment(edit_params, key, value, message):
    edit_params(put(f"explain.mnist_cnn.{key}", value))
    assert refusal().startswith(message)


def test_explaining_no_image_is_refused(edit_params):
    edit_params(lambda values: values["explain"]["mnist_cnn"]["look"].update(correct=0, wrong=0))
    assert refusal() == "explain.mnist_cnn.look: correct and wrong are both 0; ask for one image at least."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist_cn", "explain.mnist_cn: 'mnist_cn' does not stand under experiments; did you mean 'mnist_cnn'?"),
        ("rings_relu_zero", "explain.rings_relu_zero: points in a plane have no pixels to attribute. Leave it out."),
    ],
)
def test_only_experiments_on_images_are_explained(edit_params, name, message):
    parts = {"dataset": "rings", "model": "mlp", "augmentation": "transforms"}
    edit_params(lambda values: values["explain"].update({name: values["explain"]["mnist_cnn"] | parts}))
    assert refusal().startswith(message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "cnn", "seeds.mnist_mlp_100.model: is cnn, and experiments.mnist_mlp_100 has mlp. Make them the same."),
        (
            "dataset",
            "rings",
            "seeds.mnist_mlp_100.dataset: is rings, and experiments.mnist_mlp_100 has mnist. Make them the same.",
        ),
        ("seeds", [3], "seeds.mnist_mlp_100.seeds: [3] will not do: "),
        ("seeds", [3, -1], "seeds.mnist_mlp_100.seeds.1: -1 will not do: "),
        ("seeds", [3, 4, 3], "seeds.mnist_mlp_100.seeds: [3, 4, 3] will not do: a seed stands there twice"),
        ("seed", [3, 4], "seeds.mnist_mlp_100.seed: unknown key; did you mean 'seeds'?"),
    ],
)
def test_seeds_fit_their_experiment(edit_params, key, value, message):
    edit_params(put(f"seeds.mnist_mlp_100.{key}", value))
    assert refusal().startswith(message)


def test_a_misspelt_part_is_told_before_what_does_not_fit_it(edit_params):
    edit_params(put(f"{KEY}.train.model.name", "mpl"))
    assert refusal().startswith(f"{KEY}.train.model.name: no model is called 'mpl'; did you mean 'mlp'?")


def test_only_experiments_have_seeds(edit_params):
    edit_params(lambda values: values["seeds"].update(mnist_mlp_10=values["seeds"]["mnist_mlp_100"]))
    assert refusal().startswith(
        "seeds.mnist_mlp_10: 'mnist_mlp_10' does not stand under experiments; did you mean 'mnist_mlp_100'?"
    )


def test_each_seed_takes_the_place_of_the_projects(workdir):
    settings, runtimes = read_seeds("mnist_mlp_100")
    assert settings == read_training(KEY)[0]
    assert [(runtime.seed, runtime.device, runtime.threads) for runtime in runtimes] == [(seed, "cpu", 2) for seed in range(5)]


@pytest.mark.parametrize("keys", [{"init": "normal"}, {"init_std": 0.1}])
def test_normal_weights_of_an_mlp_and_their_spread_go_together(edit_params, keys):
    edit_params(lambda values: values["experiments"]["mnist_mlp_100"]["train"]["model"].update(keys))
    assert refusal().splitlines()[0] == f"{KEY}.train.model: init: normal and init_std go together."


@pytest.mark.parametrize("group", ["experiments", "sweeps", "pairs", "explain", "seeds"])
def test_group_without_any_block_is_refused(edit_params, group):
    edit_params(put(group, {}))
    assert refusal().startswith(f"{group}: ")


@pytest.mark.parametrize(
    ("reported", "wanted"),
    [
        ({"kind": "words"}, "kind: words needs a quote"),
        ({"kind": "over"}, "kind: over needs a test_accuracy"),
        ({"kind": "almost", "train_accuracy": 1.0}, "kind: almost needs a test_accuracy"),
    ],
)
def test_reported_figure_of_a_kind_that_lacks_it_is_refused(edit_params, reported, wanted):
    edit_params(put(f"{KEY}.reported", reported))
    assert refusal() == f"{KEY}.reported: {wanted}."


@pytest.mark.parametrize("key", [f"{KEY}.train.optimizer.lr", f"{KEY}.reported.seconds", f"{SWEEP}.vary.last"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_number_that_is_not_finite_is_refused(edit_params, key, value):
    edit_params(put(key, value))
    assert refusal().startswith(f"{key}: {value!r} will not do: ")


def test_sweep_gives_each_value_its_own_settings(edit_params):
    edit_params(put(f"{SWEEP}.vary", {"key": "model.dropout", "first": 0.0, "last": 1.0, "count": 10}))
    variants, runtime = read_sweep("mnist_cnn_dropout")
    assert [value for value, _ in variants] == pytest.approx([index / 9 for index in range(10)])
    assert [train.model.model_dump()["dropout"] for _, train in variants] == [value for value, _ in variants]
    assert len({train.model_dump_json(exclude={"model"}) for _, train in variants}) == 1
    assert runtime.threads == read_project().threads


def test_sweep_of_a_key_that_is_otherwise_on_embedded_data_is_refused(edit_params):
    edit_params(put(f"{SWEEP}.train.embedded", {"epochs": 3, "model": {"dropout": 0.5}}))
    with pytest.raises(ParamsError, match=rf"^{SWEEP}\.train\.embedded\.model\.dropout: is what the sweep varies"):
        read_sweep("mnist_cnn_dropout")
    assert refusal().startswith(f"{SWEEP}.train.embedded.model.dropout: ")


@pytest.mark.parametrize("stage", ["exercises", "gradcheck"])
def test_experiment_with_the_name_of_a_stage_that_writes_metrics_is_refused(edit_params, stage):
    edit_params(lambda values: values["experiments"].update({stage: values["experiments"]["mnist_cnn"]}))
    assert refusal().startswith(f"experiments.{stage}: metrics/{stage}.json is the file of the stage {stage}.")


def test_name_that_stands_for_two_things_is_refused(edit_params):
    edit_params(lambda values: values["composed"].update(mnist=values["composed"]["scenes"]))
    assert refusal() == "composed.mnist: a dataset has this name already. Rename one of them."
    edit_params(lambda values: values["composed"].pop("mnist"))
    edit_params(lambda values: values["pretrained"].update(none=values["pretrained"]["resnet18"]))
    assert refusal() == "pretrained.none: `none` means weights drawn at random. Give it another name."


@given(
    first=st.floats(-1e6, 1e6),
    last=st.floats(-1e6, 1e6),
    count=st.integers(2, 100),
)
def test_sweep_values_are_equally_spaced_with_both_ends_exact(first, last, count):
    values = Vary(key="model.dropout", first=first, last=last, count=count).values()
    assert len(values) == count
    assert (values[0], values[-1]) == (first, last)
    steps = [after - before for before, after in itertools.pairwise(values)]
    assert steps == pytest.approx([(last - first) / (count - 1)] * len(steps), abs=1e-6)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("5E-4", 5e-4),
        ("1.5e+2", 150.0),
        ("2e0", 2.0),
        ("+1e-3", 1e-3),
        ("-2E3", -2000.0),
        ("0.001", 0.001),
        (".5", 0.5),
        ("1_000", 1000),
    ],
)
def test_scientific_notation_is_read_as_a_number(tmp_path, written, value):
    (tmp_path / "params.yaml").write_text(f"lr: {written}\nlist: [{written}]\n", encoding="utf-8")
    assert read(tmp_path / "params.yaml") == {"lr": value, "list": [value]}


@pytest.mark.parametrize("written", ["e-3", "1e", "1e-3x", '"1e-3"', "v1e3", "on", "no", "1:30"])
def test_text_that_only_looks_like_a_number_stays_text(tmp_path, written):
    (tmp_path / "params.yaml").write_text(f"lr: {written}\n", encoding="utf-8")
    assert read(tmp_path / "params.yaml") == {"lr": written.strip('"')}


def test_scientific_notation_is_taken_as_a_learning_rate(workdir):
    file = workdir / "params.yaml"
    file.write_text(re.sub(r"lr: \S+", "lr: 7e-3", file.read_text(encoding="utf-8")), encoding="utf-8")
    train, _ = read_training(KEY)
    assert train.optimizer.model_dump()["lr"] == 0.007


@pytest.mark.parametrize(
    "text",
    ["seed: 0\nseed: 1\n", "experiments:\n  a: {lr: 1}\n  a: {lr: 2}\n", "train: {lr: 1, epochs: 2, lr: 3}\n"],
)
def test_key_that_stands_twice_is_refused_with_its_line(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=r"params\.yaml, line \d: (seed|a|lr) stands there twice\."):
        read(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", [b"a: [1\n", b"a: b: c\n", b"\xff\xfe\x00", b"\ta: 1\n", b"a: !!python/object:os.x 1\n"])
def test_file_that_is_no_yaml_is_refused(tmp_path, content):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: cannot be read as YAML: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "kind"), [("", "NoneType"), ("- 1\n- 2\n", "list"), ("seed\n", "str")])
def test_file_that_is_no_mapping_is_refused(tmp_path, content, kind):
    file = tmp_path / "params.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError, match=f"holds {kind}, not a mapping of keys to values"):
        read(file)


def test_missing_file_is_refused_with_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for reader in (check_project, read_project, lambda: read_training("experiments.mnist_cnn"), lambda: read_sweep("x")):
        with pytest.raises(ParamsError, match=r"params\.yaml: not found\. Run from the root of the repository\."):
            reader()


def test_unknown_experiment_is_refused_with_the_nearest_one(workdir):
    with pytest.raises(ParamsError, match=r"^experiments holds no 'mnist_cn'; did you mean 'mnist_cnn'\?$"):
        read_training("experiments.mnist_cn")


def test_unknown_sweep_is_refused_with_the_nearest_one(workdir):
    with pytest.raises(ParamsError, match=r"^sweeps holds no 'mnist_cnn_dropot'; did you mean 'mnist_cnn_dropout'\?$"):
        read_sweep("mnist_cnn_dropot")


def test_training_reads_only_its_own_block(edit_params):
    """A mistake in another experiment must not make this one retrain or fail."""
    before = read_training(KEY)
    edit_params(put("experiments.mnist_cnn.train.batch_size", "wrong"))
    edit_params(put(f"{KEY}.title", "another title"))
    assert read_training(KEY) == before


def test_what_embedded_changes_holds_on_embedded_data_alone(edit_params):
    changes = {"epochs": 3, "model": {"dropout": 0.5}, "optimizer": {"lr": 0.5}}
    edit_params(put(f"{KEY}.train.epochs", 7))
    edit_params(put(f"{KEY}.train.embedded", changes))
    train, _ = read_training(KEY)
    official, embedded = train.on("official"), train.on("embedded")
    assert (embedded.epochs, official.epochs) == (3, 7)
    assert embedded.model.model_dump() == official.model.model_dump() | {"dropout": 0.5}
    assert embedded.optimizer.model_dump() == official.optimizer.model_dump() | {"lr": 0.5}
    assert embedded.batch_size == official.batch_size
    assert embedded.on("official") == embedded.on("embedded") == embedded
    edit_params(drop(f"{KEY}.train.embedded"))
    train, _ = read_training(KEY)
    assert train.on("embedded") == train.on("official") == official


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"epochs": 0}, "embedded: epochs: 0 will not do: "),
        ({"epoch": 3}, "embedded: epoch: unknown key; did you mean 'epochs'?"),
        ({"keep": "best"}, "embedded: keep: 'best' will not do: "),
        ({"model": {"name": "cnn"}}, "embedded.model: may not name another one"),
        ({"dataset": "cifar10"}, "embedded.dataset: may not name another one"),
        ({"model": {"hiden": [3]}}, "train.embedded.model.hiden: unknown key; did you mean 'hidden'?"),
    ],
)
def test_what_embedded_may_not_change_is_refused(edit_params, changes, wanted):
    edit_params(put(f"{KEY}.train.embedded", changes))
    assert wanted in refusal()


@pytest.mark.parametrize(
    ("key", "value", "known"),
    [
        (f"{KEY}.train.dataset", "mnits", "mnist"),
        (f"{KEY}.train.pretrained", "non", "none"),
        ("composed.scenes.made_from", "mnst", "mnist"),
        ("pretrained.resnet18.train.dataset", "scenes", "mnist"),
        ("pretrained.resnet18.train.pretrained", "resnet18", "none"),
    ],
)
def test_choice_that_does_not_stand_in_the_file_is_refused_with_those_that_do(edit_params, key, value, known):
    edit_params(put(key, value))
    message = refusal()
    assert message.startswith(f"{key}: {value!r} does not stand under ")
    assert known in message


def test_check_stage_writes_the_same_bytes_for_all_valid_params(edit_params, run_stage):
    """So that a valid change reruns no stage but those that it concerns."""
    edit_params(put(f"{KEY}.train.epochs", 5))
    done = run_stage("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("data/params.ok").read_bytes() == b"params.yaml is valid\n"


def test_check_stage_ends_with_one_message_and_no_traceback(edit_params, run_stage):
    edit_params(put(f"{KEY}.train.schdule", {"name": "step"}))
    done = run_stage("check")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {KEY}.train.schdule: unknown key; did you mean 'schedule'?")
    assert "Traceback" not in done.stderr
    assert not Path("data/params.ok").exists()


def test_train_stage_ends_with_one_message_and_no_traceback(prepared, edit_params, run_stage):
    edit_params(put(f"{KEY}.train.optimizer.lr", -1.0))
    done = run_stage("train", "mnist_mlp_100")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {KEY}.train.optimizer.lr: -1.0 will not do: ")
    assert "Traceback" not in done.stderr
    assert not Path("models").exists()
