"""Settings of the sequence model."""

from pydantic import Field

from recsys.config_values import Section


class SequenceSettings(Section):
    """A transformer over the history in its order, of a table shared with the items."""

    dim: int = Field(128, ge=8, multiple_of=8, description="Dimensions D")
    length: int = Field(50, ge=1, description="Newest events of a history that are read")
    blocks: int = Field(1, ge=1, description="Transformer blocks")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of the numbers that are set to 0 while training")
    epochs: int = Field(30, ge=1, description="At most so many passes over the events; validation stops earlier")
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops")
    batch_size: int = Field(2048, ge=1, description="Events to foresee in a step")
    full_softmax_items: int = Field(50_000, ge=0, description="With more items than these, negatives are sampled")
    negatives: int = Field(2048, ge=1, description="Sampled items a step, shared by the batch")
    temperatures: tuple[float, ...] = Field(
        (0.07,), min_length=1, description="The cosine is divided by this; the best on validation is taken"
    )
    demands: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Weight of ln(1 + recent demand); the best on validation is taken",
    )
    recency_half_life_days: tuple[float, ...] = Field(
        (10.0, 30.0), min_length=1, description="Half-life of the recent demand of an item"
    )
