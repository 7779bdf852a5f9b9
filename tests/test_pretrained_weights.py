"""Initial weights of a training."""

import pytest
import safetensors.torch
import torch
from toolbox import bits, toy_model, toy_settings
from torch import nn

from labbook.config.train import Runtime
from labbook.errors import DataError
from labbook.training.experiment import train_experiment, write_weights
from labbook.training.pretrained import PretrainedWeights, read_pretrained

RUNTIME = Runtime(seed=0, device="cpu")


def body(model: nn.Module) -> dict[str, torch.Tensor]:
    """Leave out the last layer."""
    *_, head = model.named_modules()
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if not name.startswith(f"{head[0]}.")}


def saved(folder, weights, source="embedded") -> PretrainedWeights:
    write_weights(folder / "net.safetensors", weights, source)
    return read_pretrained("net", folder)


def test_no_weights_leave_the_random_ones(workdir, run_stage, tiny_packed):
    (workdir / "data/pretrained/none.safetensors").unlink()
    assert run_stage("no_weights").returncode == 0
    start = read_pretrained("none")
    assert (start.weights, start.source) == ({}, None)
    start.check_source("official")
    model = toy_model(tiny_packed)
    before = bits(model.state_dict())
    start.load_into(model)
    assert bits(model.state_dict()) == before


def test_weights_without_a_head_leave_the_head_alone(tmp_path, tiny_packed):
    source, model = toy_model(tiny_packed, seed=1), toy_model(tiny_packed, seed=2)
    head = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in body(model)}
    saved(tmp_path, body(source)).load_into(model)
    assert bits(body(model)) == bits(body(source))
    assert head
    assert bits({name: model.state_dict()[name] for name in head}) == bits(head)


def test_frozen_weight_that_the_file_lacks_is_refused(tmp_path, tiny_packed):
    model = toy_model(tiny_packed)
    start = saved(tmp_path, body(model))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(DataError, match=r"net\.safetensors: lacks \S+, but only a trainable head may be missing"):
        start.load_into(model)


def test_weights_that_lack_running_statistics_or_a_second_layer_are_refused(tmp_path, tiny_packed):
    model = toy_model(tiny_packed, "cnn", batch_norm=True)
    whole = body(model)
    saved(tmp_path, whole).load_into(model)
    statistics = next(name for name in whole if name.endswith("running_var"))
    first = next(iter(whole)).rpartition(".")[0]
    for left_out in (statistics, first):
        weights = {name: tensor for name, tensor in whole.items() if not name.startswith(left_out)}
        with pytest.raises(DataError, match=rf"lacks {left_out}\S*, but only a trainable head"):
            saved(tmp_path, weights).load_into(model)


@pytest.mark.parametrize("source", ["official", None])
def test_weights_of_another_source_than_the_dataset_are_refused(tmp_path, tiny_packed, source):
    start = saved(tmp_path, body(toy_model(tiny_packed)), source)
    with pytest.raises(
        DataError, match=rf"net\.safetensors: trained on {source or 'unknown'} data, but the dataset is embedded"
    ):
        train_experiment("x", toy_settings(), RUNTIME, tiny_packed, key="x", pretrained=start, checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.update(other=torch.zeros(2)), r"holds other, which the model does not have"),
        (lambda weights: weights.update({"1.bias": torch.zeros(2)}), r"1\.bias has shape \(2,\), expected \(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_file(tmp_path, tiny_packed, change, message):
    model = toy_model(tiny_packed)
    weights = dict(body(model))
    change(weights)
    with pytest.raises(DataError, match=message) as caught:
        saved(tmp_path, weights).load_into(model)
    assert str(caught.value).startswith(str(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("content", [b"", b"not weights at all", safetensors.torch.save({"a": torch.zeros(9)})[:-3]])
def test_damaged_file_is_refused_with_what_makes_it_again(tmp_path, content):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"net\.safetensors: damaged, not a safetensors file .* Run `dvc repro pretrain@net`\."):
        read_pretrained("net", tmp_path)


@pytest.mark.parametrize(("name", "fix"), [("net", "dvc repro pretrain@net"), ("none", "dvc repro no_weights")])
def test_a_missing_file_is_refused_with_how_to_create_it(tmp_path, name, fix):
    with pytest.raises(DataError, match=rf"{name}\.safetensors: not found\. .*{fix}"):
        read_pretrained(name, tmp_path)


def test_training_begins_with_the_weights(tmp_path, tiny_packed):
    settings = toy_settings(optimizer={"name": "SGD", "lr": 1e-9}, epochs=1)

    def train(start):
        return train_experiment(
            "x", settings, RUNTIME, tiny_packed, key="experiments.x.train", pretrained=start, checkpoints=tmp_path
        ).weights

    source = toy_model(tiny_packed, seed=5)
    started, fresh = train(saved(tmp_path, body(source))), train(None)
    for name, tensor in body(source).items():
        torch.testing.assert_close(started[name], tensor, rtol=0, atol=1e-6)
        assert not torch.allclose(fresh[name], tensor, atol=1e-3)
