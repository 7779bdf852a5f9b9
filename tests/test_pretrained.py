"""Published weights of ResNet-18, simulated by a file of the same format with random values."""

import contextlib
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toolbox import with_checksum_of
from torch import nn

from labbook.data.pretrained import resnet18
from labbook.errors import DataError
from labbook.models import resnet18 as resnet18_model
from labbook.training.pretrained import PretrainedWeights


def build(trainable: list[str] | None = None, classes: int = 10) -> nn.Module:
    return resnet18_model.build(resnet18_model.Settings(name="resnet18", trainable=trainable), (3, 64, 64), classes)


@pytest.fixture
def published(root, monkeypatch):
    """Write a weights file with a thousand classes to the data root; return its state dict."""
    torch.manual_seed(7)
    state = build(classes=1000).state_dict()
    file = root / "hub/checkpoints/resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    monkeypatch.setattr(resnet18, "WEIGHTS", with_checksum_of(resnet18.WEIGHTS, file.read_bytes()))
    return state


def test_published_weights_fill_all_but_the_head(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    weights = resnet18.read(tmp_path / "raw")
    model = build(["layer4"])
    head = model.state_dict()["fc.weight"].clone()
    PretrainedWeights(tmp_path / "x", weights, "official", "").load_into(model)
    loaded = model.state_dict()
    assert torch.equal(loaded["fc.weight"], head)
    for name in published:
        assert name.startswith("fc.") or torch.equal(loaded[name], published[name])


def test_weights_of_another_network_are_rejected(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    weights = resnet18.read(tmp_path / "raw")
    del weights["layer1.0.conv1.weight"]
    with pytest.raises(DataError, match=r"lacks layer1\.0\.conv1\.weight, but only a trainable head"):
        PretrainedWeights(tmp_path / "x", weights, "official", "").load_into(build(["layer4"]))


def test_altered_file_is_rejected_before_it_is_read(published, tmp_path):
    file = tmp_path / "root/hub/checkpoints/resnet18-f37072fd.pth"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth: has sha256 \w+, expected"):
        resnet18.fetch(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def torch_bytes(value: object, zipped: bool = True) -> bytes:
    """Return the bytes that `torch.save` writes, in the zip format or in the legacy format."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


DAMAGED = r"resnet18-f37072fd\.pth: damaged, not a state dict that torch\.load can read\. Remove it and run `dvc repro`\.$"
INVALID_WEIGHTS = [
    [torch.ones(1)],
    torch.ones(1),
    {"conv1.weight": 1},
    {1: torch.ones(1)},
    {"layer1": {"weight": torch.ones(1)}},
]


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps(print), *map(torch_bytes, INVALID_WEIGHTS)])
def test_damaged_file_is_rejected_with_the_command_that_fetches_it_again(tmp_path, content):
    (tmp_path / resnet18.WEIGHTS.name).write_bytes(content)
    with pytest.raises(DataError, match=DAMAGED):
        resnet18.read(tmp_path)


@given(position=st.floats(0, 1, exclude_max=True), zipped=st.booleans())
def test_altered_byte_raises_no_other_error(position, zipped, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    content = bytearray(torch_bytes({"weight": torch.ones(2)}, zipped))
    content[int(position * len(content))] ^= 0x15
    (folder / resnet18.WEIGHTS.name).write_bytes(content)
    with contextlib.suppress(DataError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in resnet18.read(folder).values())


def test_trainable_parameters_are_those_of_the_settings_and_the_head(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    model = build(["layer4"])
    PretrainedWeights(tmp_path / "x", resnet18.read(tmp_path / "raw"), "official", "").load_into(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"layer4", "fc"}
