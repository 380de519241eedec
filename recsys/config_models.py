"""Settings of the models, a table of the configuration each."""

from typing import Annotated

from pydantic import Field, model_validator

from recsys.config_values import Section

Days = Annotated[float, Field(gt=0)]
Rank = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0)]


class PopularitySettings(Section):
    """The baseline: counts of target events, decayed."""

    half_life_days: tuple[Days, ...] = Field(
        (7.0, 28.0, 36500.0), min_length=1, description="Candidates; the best on validation is taken (36500: all time)"
    )


class MfSettings(Section):
    """Spectral matrix factorisation. Of several values the best on validation is taken."""

    ranks: tuple[Rank, ...] = Field((64, 128, 256, 512), min_length=1, description="Dimensions D")
    kind_exponents: tuple[float, ...] = Field(
        (1.0, 0.0),
        min_length=1,
        description="An event counts as the weight of its kind to this power (0: all kinds alike)",
    )
    user_exponents: tuple[float, ...] = Field(
        (0.2, 0.35, 0.5),
        min_length=1,
        description="The matrix is divided by user degree to this power before it is factorised",
    )
    item_exponents: tuple[float, ...] = Field(
        (0.2, 0.3, 0.4, 0.5),
        min_length=1,
        description="The matrix is divided by item degree to this power before it is factorised",
    )
    popularity_exponents: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
        min_length=1,
        description="Item vectors are multiplied by item degree to this power",
    )
    singular_exponents: tuple[float, ...] = Field(
        (0.15, 0.25, 0.5),
        min_length=1,
        description="Both sides are multiplied by the singular values to this power: larger trusts the large ones more",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (5.0, 10.0, 20.0, 60.0), min_length=1, description="Half-life of the recent demand of an item"
    )
    recency_exponents: tuple[float, ...] = Field(
        (0.0, 0.3, 0.6, 0.9),
        min_length=1,
        description="Item vectors are multiplied by (1 + recent demand) / degree^0.7 to this power",
    )
    iterations: int = Field(6, ge=1, description="Power iterations of the randomised factorisation")


class TwoTowerSettings(Section):
    """Two towers of torchrec embeddings, trained with a sampled softmax."""

    dim: int = Field(256, ge=4, multiple_of=4, description="Dimensions D")
    epochs: int = Field(20, ge=1, description="At most so many passes; validation stops earlier")
    pass_events: int = Field(
        1_000_000,
        ge=1,
        description="A pass learns from about so many events at most, drawn anew for each: validation looks in between",
    )
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops")
    batch_size: int = Field(2048, ge=1, description="Positives a step")
    negatives: int = Field(4096, ge=1, description="Items drawn a step, or all where no more; the batch shares them")
    learning_rate: float = Field(
        0.05,
        gt=0,
        description="Of the row-wise Adagrad in the backward pass; items begin at a median length of 1, features at 0",
    )
    temperatures: tuple[Temperature, ...] = Field(
        (0.07, 0.1, 0.15), min_length=1, description="The scores are divided by this; the best on validation is taken"
    )
    unit_items: tuple[bool, ...] = Field(
        (True, False),
        min_length=1,
        description="Item vectors have length 1, or one that is learnt; the best on validation is taken",
    )
    demands: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Weight of ln(1 + recent demand); the best on validation is taken",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (10.0, 30.0), min_length=1, description="Half-life of the recent demand of an item"
    )


class SequenceSettings(Section):
    """A transformer over the history in its order, of a table shared with the items."""

    dim: int = Field(128, ge=8, multiple_of=8, description="Dimensions D")
    length: int = Field(50, ge=1, description="Newest events of a history that are read")
    blocks: int = Field(1, ge=1, description="Transformer blocks")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of the numbers that are set to 0 while training")
    epochs: int = Field(30, ge=1, description="At most so many passes; validation stops earlier")
    pass_events: int = Field(
        1_000_000,
        ge=1,
        description="A pass learns from about so many events at most, drawn anew for each: validation looks in between",
    )
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops")
    batch_size: int = Field(2048, ge=1, description="Events to foresee in a step")
    full_softmax_items: int = Field(20_000, ge=0, description="With more items than these, negatives are sampled")
    negatives: int = Field(4096, ge=1, description="Items drawn a step, or all where no more; the batch shares them")
    temperatures: tuple[Temperature, ...] = Field(
        (0.07,), min_length=1, description="The cosine is divided by this; the best on validation is taken"
    )
    demands: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Weight of ln(1 + recent demand); the best on validation is taken",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (10.0, 30.0), min_length=1, description="Half-life of the recent demand of an item"
    )


class AutoSettings(Section):
    """The choice among candidates and of their blend; docs/architecture.md tells how it is made."""

    candidates: tuple[str, ...] = Field(
        ("popularity", "mf", "two_tower", "sequence"),
        min_length=1,
        description="Names of recsys.models.MODELS or dotted paths, the cheapest first",
    )

    @model_validator(mode="after")
    def _others(self) -> "AutoSettings":
        if "auto" in self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise ValueError(
                f"[models.auto] candidates {list(self.candidates)}: each model once is allowed, and not `auto` itself"
            )
        return self


class ModelSettings(Section):
    """Settings of the models, a table each."""

    popularity: PopularitySettings = PopularitySettings()
    mf: MfSettings = MfSettings()
    two_tower: TwoTowerSettings = TwoTowerSettings()
    sequence: SequenceSettings = SequenceSettings()
    auto: AutoSettings = AutoSettings()
