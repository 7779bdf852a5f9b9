"""Training with pretrained initial weights."""

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


def without_head(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict without the last layer."""
    *_, head = model.named_modules()
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if not name.startswith(f"{head[0]}.")}


def write_and_read(folder, weights, source="embedded") -> PretrainedWeights:
    write_weights(folder / "net.safetensors", weights, source)
    return read_pretrained("net", folder)


def test_no_weights_keep_the_random_initialisation(workdir, run_stage, tiny_packed):
    (workdir / "data/pretrained/none.safetensors").unlink()
    assert run_stage("no_weights").returncode == 0
    pretrained = read_pretrained("none")
    assert (pretrained.weights, pretrained.source) == ({}, None)
    pretrained.check_source("official")
    model = toy_model(tiny_packed)
    before = bits(model.state_dict())
    pretrained.load_into(model)
    assert bits(model.state_dict()) == before


def test_weights_without_a_head_do_not_change_the_head(tmp_path, tiny_packed):
    source, model = toy_model(tiny_packed, seed=1), toy_model(tiny_packed, seed=2)
    head = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in without_head(model)}
    write_and_read(tmp_path, without_head(source)).load_into(model)
    assert bits(without_head(model)) == bits(without_head(source))
    assert head
    assert bits({name: model.state_dict()[name] for name in head}) == bits(head)


def test_missing_frozen_weight_raises_data_error(tmp_path, tiny_packed):
    model = toy_model(tiny_packed)
    pretrained = write_and_read(tmp_path, without_head(model))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(DataError, match=r"net\.safetensors: lacks \S+, but only a trainable head may be missing"):
        pretrained.load_into(model)


def test_missing_running_statistics_or_second_layer_raise_data_error(tmp_path, tiny_packed):
    model = toy_model(tiny_packed, "cnn", batch_norm=True)
    weights_without_head = without_head(model)
    write_and_read(tmp_path, weights_without_head).load_into(model)
    statistics = next(name for name in weights_without_head if name.endswith("running_var"))
    first = next(iter(weights_without_head)).rpartition(".")[0]
    for missing in (statistics, first):
        weights = {name: tensor for name, tensor in weights_without_head.items() if not name.startswith(missing)}
        with pytest.raises(DataError, match=rf"lacks {missing}\S*, but only a trainable head"):
            write_and_read(tmp_path, weights).load_into(model)


@pytest.mark.parametrize("source", ["official", None])
def test_weights_of_another_data_source_raise_data_error(tmp_path, tiny_packed, source):
    pretrained = write_and_read(tmp_path, without_head(toy_model(tiny_packed)), source)
    with pytest.raises(
        DataError, match=rf"net\.safetensors: trained on {source or 'unknown'} data, but the dataset is embedded"
    ):
        train_experiment("x", toy_settings(), RUNTIME, tiny_packed, key="x", pretrained=pretrained, checkpoints=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.update(other=torch.zeros(2)), r"holds other, which the model does not have"),
        (lambda weights: weights.update({"1.bias": torch.zeros(2)}), r"1\.bias has shape \(2,\), expected \(16,\)"),
    ],
)
def test_error_for_incompatible_weights_names_the_file(tmp_path, tiny_packed, change, message):
    model = toy_model(tiny_packed)
    weights = dict(without_head(model))
    change(weights)
    with pytest.raises(DataError, match=message) as caught:
        write_and_read(tmp_path, weights).load_into(model)
    assert str(caught.value).startswith(str(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("content", [b"", b"not weights at all", safetensors.torch.save({"a": torch.zeros(9)})[:-3]])
def test_error_for_a_damaged_file_names_the_stage_that_creates_it(tmp_path, content):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"net\.safetensors: damaged, not a safetensors file .* Run `dvc repro pretrain@net`\."):
        read_pretrained("net", tmp_path)


@pytest.mark.parametrize(("name", "fix"), [("net", "dvc repro pretrain@net"), ("none", "dvc repro no_weights")])
def test_error_for_a_missing_file_names_the_stage_that_creates_it(tmp_path, name, fix):
    with pytest.raises(DataError, match=rf"{name}\.safetensors: not found\. .*{fix}"):
        read_pretrained(name, tmp_path)


def test_training_starts_from_the_pretrained_weights(tmp_path, tiny_packed):
    settings = toy_settings(optimizer={"name": "SGD", "lr": 1e-9}, epochs=1)

    def train(pretrained):
        return train_experiment(
            "x", settings, RUNTIME, tiny_packed, key="experiments.x.train", pretrained=pretrained, checkpoints=tmp_path
        ).weights

    source = toy_model(tiny_packed, seed=5)
    pretrained, random = train(write_and_read(tmp_path, without_head(source))), train(None)
    for name, tensor in without_head(source).items():
        torch.testing.assert_close(pretrained[name], tensor, rtol=0, atol=1e-6)
        assert not torch.allclose(random[name], tensor, atol=1e-3)
