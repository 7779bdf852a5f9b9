"""What the explain stage is asked to show of an experiment: a block under `explain:` in `params.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from labbook.core.settings import Name, Strict

__all__ = ["Explained", "Look", "Method"]

Method = Literal["saliency", "integrated_gradients", "layer_gradcam", "guided_gradcam", "occlusion"]


def _number_if_digits(value: Any) -> Any:
    """Read a number that a command line gives as text; a path stays text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _text_if_number(value: Any) -> Any:
    """Read layer 3 of a `Sequential`, whose name is text."""
    return str(value) if type(value) is int else value


class Look(Strict):
    """What is looked at; DVC hands these keys to the stage as they stand."""

    image: Annotated[Annotated[int, Field(ge=0)] | str, BeforeValidator(_number_if_digits)] = Field(
        description="whose activations are shown: an index into the test set, or an image file"
    )
    layer: Annotated[str, BeforeValidator(_text_if_number)] = Field(description="a name of model.named_modules()")
    channels: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=16, description="of the layer, or its units")
    attributions: list[Method] = Field(min_length=1)
    correct: int = Field(2, ge=0, le=10, description="correctly classified test images to attribute: the first ones")
    wrong: int = Field(2, ge=0, le=10, description="wrongly classified ones")
    steps: int = Field(32, gt=0, le=1000, description="of integrated gradients")
    region: str | None = Field(None, description="segmentation: the class whose pixels are attributed")

    @model_validator(mode="after")
    def _shows_something_once(self) -> "Look":
        if not self.correct + self.wrong:
            raise ValueError("correct and wrong are both 0; ask for one image at least")
        for key in ("channels", "attributions"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} names something twice")
        return self


class Explained(Strict):
    """One experiment's block. DVC needs the parts here too, as stages depend on their files; they are checked."""

    dataset: Name
    model: Name
    augmentation: Name
    look: Look
