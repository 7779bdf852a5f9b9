"""Results that a coursework report states for an experiment: a block `reported` in `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from labbook.config.components import Strict

__all__ = ["Reported"]


class Reported(Strict):
    """Results printed in a coursework report; accuracies are fractions in [0, 1].

    `kind` is how the report states the test accuracy: as an `exact` number, a rounded number (`about`), a lower bound (`over`),
    a number that was nearly reached (`almost`), a result on a different dataset (`other_data`), or only in words: as no better
    than `guessing`, or as other `words`, which `quote` holds.
    """

    kind: Literal["exact", "about", "over", "almost", "other_data", "guessing", "words"] = "exact"
    test: float | None = Field(None, ge=0, le=1)
    last_test: float | None = Field(
        None, ge=0, le=1, description="test accuracy after the last epoch, if `test` is that of the best epoch"
    )
    required: float | None = Field(None, ge=0, le=1, description="test accuracy that the assignment requires")
    train: float | None = Field(None, ge=0, le=1)
    val: float | None = Field(None, ge=0, le=1)
    per_class: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = Field(None, description="test accuracy by class")
    train_loss: float | None = Field(None, ge=0)
    test_loss: float | None = Field(None, ge=0)
    seconds_cpu: float | None = Field(None, gt=0, description="training time in seconds")
    seconds_gpu: float | None = Field(None, gt=0)
    quote: str | None = None

    @model_validator(mode="after")
    def _kind_has_required_value(self) -> "Reported":
        if self.kind in {"words", "guessing"} and self.quote is None:
            raise ValueError(f"kind: {self.kind} needs a quote")
        if self.kind in {"about", "over", "almost", "other_data"} and self.test is None:
            raise ValueError(f"kind: {self.kind} needs test, the reported test accuracy")
        return self
