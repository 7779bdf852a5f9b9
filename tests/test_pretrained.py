"""Published weights of ResNet-18, as a file of the same format with random values."""

import hashlib
import pickle

import pytest
import torch
from torch import nn

from labbook.download import DATA_ROOT, Remote
from labbook.errors import DataError
from labbook.models import resnet18 as model_file
from labbook.pretrained import resnet18
from labbook.training.start import Start


def build(trainable: list[str] | None = None, classes: int = 10) -> nn.Module:
    return model_file.build(model_file.Settings(name="resnet18", trainable=trainable), (3, 64, 64), classes)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A data root that holds such a file with a thousand classes."""
    torch.manual_seed(7)
    state = build(classes=1000).state_dict()
    file = tmp_path / "root/hub/checkpoints/resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    remote = Remote(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), "hub/checkpoints")
    monkeypatch.setattr(resnet18, "WEIGHTS", remote)
    monkeypatch.setenv(DATA_ROOT, str(tmp_path / "root"))
    return state


def test_published_weights_fill_all_but_the_head(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    weights = resnet18.read(tmp_path / "raw")
    model = build(["layer4"])
    head = model.state_dict()["fc.weight"].clone()
    Start(tmp_path / "x", weights, "").give_to(model)
    loaded = model.state_dict()
    assert torch.equal(loaded["fc.weight"], head)
    for name in published:
        assert name.startswith("fc.") or torch.equal(loaded[name], published[name])


def test_weights_of_another_network_are_refused(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    weights = resnet18.read(tmp_path / "raw")
    del weights["layer1.0.conv1.weight"]
    with pytest.raises(DataError, match=r"holds no layer1\.0\.conv1\.weight, which is frozen"):
        Start(tmp_path / "x", weights, "").give_to(build(["layer4"]))


def test_altered_file_is_refused_before_it_is_read(published, tmp_path):
    file = tmp_path / "root/hub/checkpoints/resnet18-f37072fd.pth"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth: has sha256 \w+, published is"):
        resnet18.fetch(tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("content", [b"", b"no weights", pickle.dumps(print)])
def test_damaged_file_is_refused_with_what_fetches_it_again(tmp_path, content):
    (tmp_path / resnet18.WEIGHTS.name).write_bytes(content)
    with pytest.raises(DataError, match=r"resnet18-f37072fd\.pth: damaged, no weights that .* fetch_pretrained@resnet18"):
        resnet18.read(tmp_path)


def test_only_what_is_trainable_changes(published, tmp_path):
    resnet18.fetch(tmp_path / "raw")
    model = build(["layer4"])
    Start(tmp_path / "x", resnet18.read(tmp_path / "raw"), "").give_to(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"layer4", "fc"}
