"""The rules of a question in its body: what is pinned, boosted, capped, and which known items may come."""

from typing import Annotated, Any

from pydantic import Field

from api.schemas import AnyFilter, Form, Id
from recsys.serving import rules as engine

Factor = Annotated[float, Field(ge=0, le=engine.MAX_FACTOR, strict=False, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=False)]


class Pin(Form):
    """An item that stands at a place. Of a place that is taken the next free one."""

    item_id: Id
    place: int = Field(ge=1, le=engine.MAX_PLACE, description="From 1 on", examples=[1])


class Boost(Form):
    """Items that count as at place / factor: those that meet a filter, or those that are named."""

    factor: Factor = Field(description="Above 1: earlier; below 1: later; 0: behind all others", examples=[2])
    filter: AnyFilter | None = Field(None, description="See the documentation", examples=["brand:eq:Vento"])
    item_ids: list[Id] | None = Field(None, min_length=1, max_length=engine.MAX_BOOSTED_ITEMS)


class Rules(Form):
    """What a list has to be like. What is not said is as the placement or the configuration says."""

    pin: list[Pin] = Field([], max_length=engine.MAX_PINS)
    boost: list[Boost] = Field([], max_length=engine.MAX_BOOSTS)
    max_per: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {},
        max_length=engine.MAX_CAPS,
        description="Column -> how many items may share a value in it",
        examples=[{"brand": 2}],
    )
    diversity: Share | None = Field(None, description="0: only the order counts; 1: only how unlike the items are")
    exploration: Share | None = Field(None, description="The share of places that new items get")
    allow_seen: bool | None = Field(None, description="false: leave out the items of any event of the history")
    allow_viewed: bool | None = Field(None, description="false: leave out what was viewed")
    allow_in_basket: bool | None = Field(
        None, description="false: leave out what was put into the basket and not bought"
    )
    allow_repurchase: bool | None = Field(None, description="true: what was bought may come again")

    def plain(self) -> dict[str, Any]:
        """The same for the engine."""
        return self.model_dump(exclude_none=True, exclude_unset=True)
