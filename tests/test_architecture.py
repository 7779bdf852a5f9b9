"""The table of a model's layers: their order, shapes and numbers of parameters."""

import pytest
import torch
from toolbox import toy_model
from torch import nn

from labbook.evaluation.layers import list_layers


def test_layers_are_listed_in_order_of_use_with_shapes_and_parameters(tiny_packed):
    rows = list_layers(toy_model(tiny_packed, "cnn").eval(), torch.zeros(1, 1, 6, 6))
    assert [row["kind"] for row in rows] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "Flatten", "Linear"]
    assert [row["shape"] for row in rows][:3] == [[4, 6, 6], [4, 6, 6], [4, 3, 3]]
    assert [row["parameters"] for row in rows] == [40, 0, 0, 148, 0, 0, 111]


class SharedLayer(nn.Module):
    """A model that uses one layer twice, and has a parameter outside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, values):
        return self.scale * self.first(self.first(values))


def test_shared_parameters_count_once_and_parameters_outside_layers_come_last():
    model = SharedLayer()
    rows = list_layers(model, torch.zeros(1, 3))
    assert [(row["name"], row["parameters"]) for row in rows] == [("first", 12), ("first", 0), ("", 3)]


def test_hooks_are_removed_even_after_an_error():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list_layers(model, torch.zeros(1, 3))
    assert not any(module._forward_hooks for module in model.modules())
