"""The settings: a class for each table of the configuration, a field for each key with default, limits and meaning."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, model_validator

from recsys.config.cron import parse_cron, time_zone
from recsys.errors import ConfigError

MAX_EXPANDED_MIB = 4096  # of a compressed file to import
RETURN = 127  # the code of an event that takes a purchase back; kinds have lower ones
MAX_KINDS = 127


class Section(BaseModel):
    """A table of the file: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def field_name(section: type[BaseModel], name: str) -> str:
    """The name of a key in the file: `imports` is [import], a word that Python keeps for itself."""
    return section.model_fields[name].alias or name


Days = Annotated[float, Field(gt=0)]
Rank = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0)]


class PopularitySettings(Section):
    """The baseline: counts of target events that decay with time."""

    half_life_days: tuple[Days, ...] = Field(
        (7.0, 28.0, 36500.0), min_length=1, description="Candidates; validation chooses the best (36500: all time)"
    )


class MfSettings(Section):
    """Matrix factorization by SVD. Where a key lists several values, validation chooses the best."""

    n_factors: tuple[Rank, ...] = Field((64, 128, 256, 512), min_length=1, description="Dimensions D")
    kind_exponents: tuple[float, ...] = Field(
        (1.0, 0.0),
        min_length=1,
        description="Power of the weight of an event's kind (0: all kinds count the same)",
    )
    user_exponents: tuple[float, ...] = Field(
        (0.2, 0.35, 0.5),
        min_length=1,
        description="Power of the user degree that divides the matrix before factorization",
    )
    item_exponents: tuple[float, ...] = Field(
        (0.2, 0.3, 0.4, 0.5),
        min_length=1,
        description="Power of the item degree that divides the matrix before factorization",
    )
    popularity_exponents: tuple[float, ...] = Field(
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
        min_length=1,
        description="Power of the item degree that multiplies item vectors",
    )
    singular_exponents: tuple[float, ...] = Field(
        (0.15, 0.25, 0.5),
        min_length=1,
        description="Power of the singular values that multiplies both sides; a larger one favors the large values",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (5.0, 10.0, 20.0, 60.0), min_length=1, description="Half-life of an item's recent demand"
    )
    recency_exponents: tuple[float, ...] = Field(
        (0.0, 0.3, 0.6, 0.9),
        min_length=1,
        description="Power of (1 + recent demand) / degree^0.7 that multiplies item vectors",
    )
    iterations: int = Field(6, ge=1, description="Power iterations of the randomized SVD")


class TwoTowerSettings(Section):
    """Two towers of torchrec embeddings, trained with a sampled softmax."""

    dim: int = Field(256, ge=4, multiple_of=4, description="Dimensions D")
    epochs: int = Field(20, ge=1, description="Maximum number of epochs; early stopping on validation may end sooner")
    max_events_per_epoch: int = Field(
        1_000_000,
        ge=1,
        description="Approximate maximum of events per epoch, sampled anew for each; validation follows every epoch",
    )
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops")
    batch_size: int = Field(2048, ge=1, description="Positives per step")
    negatives: int = Field(
        4096, ge=1, description="Sampled items per step, shared by the batch; at most the whole catalog"
    )
    learning_rate: float = Field(
        0.05,
        gt=0,
        description="Learning rate of row-wise Adagrad; item vectors start at a median length of 1, features at 0",
    )
    temperatures: tuple[Temperature, ...] = Field(
        (0.07, 0.1, 0.15), min_length=1, description="Divisor of the scores; validation chooses the best"
    )
    normalize_items: tuple[bool, ...] = Field(
        (True, False),
        min_length=1,
        description="Whether item vectors have length 1 or a learned one; validation chooses the best",
    )
    trend_weights: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Weight of ln(1 + recent demand); validation chooses the best",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (10.0, 30.0), min_length=1, description="Half-life of an item's recent demand"
    )


class SequenceSettings(Section):
    """A transformer over the ordered history, with an embedding table shared with the items."""

    dim: int = Field(128, ge=8, multiple_of=8, description="Dimensions D")
    length: int = Field(50, ge=1, description="Number of newest events of a history that it reads")
    blocks: int = Field(1, ge=1, description="Transformer blocks")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout rate during training")
    epochs: int = Field(30, ge=1, description="Maximum number of epochs; early stopping on validation may end sooner")
    max_events_per_epoch: int = Field(
        1_000_000,
        ge=1,
        description="Approximate maximum of events per epoch, sampled anew for each; validation follows every epoch",
    )
    patience: int = Field(2, ge=1, description="Epochs without a better validation score before training stops")
    batch_size: int = Field(2048, ge=1, description="Events to predict per step")
    full_softmax_items: int = Field(
        20_000, ge=0, description="Largest catalog with a full softmax; larger ones sample negatives"
    )
    negatives: int = Field(
        4096, ge=1, description="Sampled items per step, shared by the batch; at most the whole catalog"
    )
    temperatures: tuple[Temperature, ...] = Field(
        (0.07,), min_length=1, description="Divisor of the cosine; validation chooses the best"
    )
    trend_weights: tuple[float, ...] = Field(
        (0.0, 0.25, 0.5, 1.0),
        min_length=1,
        description="Weight of ln(1 + recent demand); validation chooses the best",
    )
    recency_half_life_days: tuple[Days, ...] = Field(
        (10.0, 30.0), min_length=1, description="Half-life of an item's recent demand"
    )


class AutoSettings(Section):
    """The choice of a model, or of a blend of several; docs/architecture.md explains how it is made."""

    candidates: tuple[str, ...] = Field(
        ("popularity", "mf", "two_tower", "sequence"),
        min_length=1,
        description="Names of recsys.models.contract.MODELS or dotted names, the cheapest first",
    )

    @model_validator(mode="after")
    def _others(self) -> "AutoSettings":
        if "auto" in self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise ValueError(
                f"[models.auto] candidates {list(self.candidates)}: allowed is each model once, without `auto` itself"
            )
        return self


class ModelSettings(Section):
    """The settings of the models, one table each."""

    popularity: PopularitySettings = PopularitySettings()
    mf: MfSettings = MfSettings()
    two_tower: TwoTowerSettings = TwoTowerSettings()
    sequence: SequenceSettings = SequenceSettings()
    auto: AutoSettings = AutoSettings()


class StoreSettings(Section):
    """The database of the service's own tables."""

    url: str = Field("sqlite:///recsys.db", description="SQLAlchemy URL of SQLite, PostgreSQL or MariaDB")
    url_file: Path | None = Field(
        None, description="File that holds the URL, in place of `url`", examples=["/run/secrets/store_url"]
    )
    table_prefix: str = Field(
        "recsys_", pattern=r"^[a-z][a-z0-9_]{0,30}$", description="Prefix of the names of the tables"
    )


class StorageSettings(Section):
    """The folder of the service's files."""

    path: Path = Field(Path("recsys-data"), description="Folder of the bundles and the extract")
    keep_bundles: int = Field(7, ge=2, description="Number of published bundles to keep; older ones are deleted")


class SourceSettings(Section):
    """The shop's database, which is only read. Without queries the service's own tables are the source."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL; a read-only account is enough",
        examples=["postgresql://reader:secret@localhost/shop"],
    )
    url_file: Path | None = Field(
        None, description="File that holds the URL, in place of `url`", examples=["/run/secrets/shop_url"]
    )
    query_timeout_seconds: float = Field(
        3600.0, gt=0, description="Time limit of a query; waiting for a lock ends after at most 60 s of it"
    )
    dialect: str | None = Field(
        None,
        description="Name in recsys.source.contract.SOURCES or a dotted name; unset: the URL's",
        examples=["duckdb_source:DUCKDB"],
    )
    interactions: str | None = Field(
        None,
        description="Query of user_id, item_id, event, timestamp and, optionally, value, visitor_id and order_id",
        examples=["SELECT user_id, item_id, event, timestamp FROM shop_events"],
    )
    items: str | None = Field(
        None,
        description="Query that returns item_id and any catalog columns",
        examples=["SELECT item_id, title, category, brand, price, available FROM shop_products"],
    )
    users: str | None = Field(
        None,
        description="Query that returns user_id, email_consent and any columns",
        examples=["SELECT user_id, email_consent FROM shop_customers"],
    )
    contacts: str | None = Field(
        None,
        description="Query or table of the mails that were sent: user_id or email, and timestamp",
        examples=["SELECT user_id, sent_at AS timestamp FROM mails"],
    )
    reviews: str | None = Field(
        None,
        description="Query of item_id and, optionally, user_id, rating, title, text, time and language",
        examples=["SELECT item_id, user_id, rating, text, time FROM shop_reviews"],
    )
    best_rating: float = Field(5.0, gt=0, description="The best rating of a review; others count in proportion")
    timezone: str | None = Field(
        None,
        description="Time zone of times without one; unset: UTC, with a note in the check",
        examples=["Europe/Berlin"],
    )
    time_format: str | None = Field(
        None,
        min_length=1,
        description="strptime format of times in text; unset: ISO 8601",
        examples=["%m/%d/%Y %H:%M"],
    )
    guest_ids: tuple[str, ...] = Field(
        (),
        description="Ids of users and visitors that stand for guests; events without another id are left out",
        examples=[("0", "guest")],
    )
    available_words: dict[str, bool] = Field(
        {}, description="The shop's words for whether an item can be bought, beside those of docs/data.md"
    )
    consent_words: dict[str, bool] = Field(
        {}, description="The shop's words for whether a user may be mailed, beside those of docs/data.md"
    )
    language: str | None = Field(
        None,
        description="Which text of a column counts that holds several as JSON, by language",
        examples=["de_DE"],
    )
    incremental: bool = Field(
        True, description="Read the days that changed since the last night; false: everything every night"
    )
    overlap_days: float = Field(
        2.0, ge=0, description="Days before the last reading that are read again where anything changed"
    )
    check_nights: int = Field(
        7,
        ge=1,
        description="Nights in which each day of the last four weeks is compared with the database once, and the "
        "rows of older days are counted; 1: all days are compared every night",
    )
    full_read_days: float = Field(30.0, gt=0, description="Days after which everything is read, changed or not")
    updated_at: str | None = Field(
        None,
        description="Column of the query of interactions that says when a row changed; its days are read at once",
        examples=["updated_at"],
    )
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="Largest share of rows with the same fault; above it the check refuses the run"
    )

    @model_validator(mode="after")
    def _complete(self) -> "SourceSettings":
        if self.interactions is None and (self.items or self.users):
            raise ValueError("[source] has a query for items or users but none for interactions")
        if self.interactions is not None and self.url is None:
            raise ValueError("[source] has a query for interactions but no url")
        return self


class ImportSettings(Section):
    """Files that `recsys import` reads into the service's own tables."""

    columns: dict[str, str] = Field(
        {}, description='Column that the import needs = its name in the files, as in user_id = "CustomerID"'
    )
    max_expanded_mib: int = Field(
        MAX_EXPANDED_MIB, ge=1, description="A compressed file (.gz, .zip, .xlsx) that expands to more is refused"
    )


class EventSettings(Section):
    """The kinds of events and what they count."""

    aliases: dict[str, str] = Field(
        {}, description='Shop\'s word = kind, as in buy = "purchase"; the kinds of [events.weights] need no entry'
    )
    weights: dict[str, float] = Field(
        {"view": 0.2, "cart": 0.5, "purchase": 1.0},
        min_length=1,
        description="The kinds, and the weight of one event of each",
    )
    new_kind_weight: float | None = Field(
        None,
        ge=0,
        description="Weight of posted kinds that [events.weights] does not name; unset: the smallest there above 0; "
        "0: they are stored and do not count",
        examples=[0.1],
    )
    half_life_days: tuple[float, ...] = Field(
        (30.0, 90.0, 365.0, 36500.0),
        min_length=1,
        description="Days after which an event counts half; validation chooses the best",
    )
    bought: tuple[str, ...] | None = Field(
        None,
        description="Kinds that mean the user bought the item; unset: [evaluation] targets",
        examples=[("purchase",)],
    )
    returns: tuple[str, ...] = Field(
        ("return",),
        description="Words of events that take back the user's latest earlier purchase of the item",
    )
    own_kinds: tuple[str, ...] | None = Field(
        None,
        description="Kinds taken from events posted to the service; unset: those that the source lacks",
        examples=[("view", "cart")],
    )
    dedup_window_minutes: float = Field(
        10.0,
        ge=0,
        description="Time within which the same user, item and kind from the source and the service count once",
    )
    visitor_days: float = Field(
        90.0,
        gt=0,
        description="Days that events without a user are kept, and before the newest event from which they train",
    )
    max_visitor_events: int = Field(
        2_000_000, ge=0, description="Maximum number of events without a user to train from, the newest; 0: none"
    )
    history_length: int = Field(
        500, ge=1, description="Number of newest events in a user's history; everything bought is added"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_a_kind_of_that_name(cls, values: Any) -> Any:
        """A shop whose own kind or word is `return` keeps it: only the default steps back."""
        if not isinstance(values, dict) or "returns" in values:
            return values
        named = (values.get("weights"), values.get("aliases"))
        is_taken = any("return" in table for table in named if isinstance(table, dict))
        return {**values, "returns": ()} if is_taken else values

    @model_validator(mode="after")
    def _known(self) -> "EventSettings":
        known = (*self.weights, *self.returns)
        named = [(f"[events.aliases] {theirs} =", ours, known) for theirs, ours in self.aliases.items()]
        named += [("[events] own_kinds", kind, known) for kind in self.own_kinds or ()]
        named += [("[events] bought", kind, tuple(self.weights)) for kind in self.bought or ()]
        for where, kind, allowed in named:
            if kind not in allowed:
                raise ValueError(f"{where} {kind!r}: allowed are {', '.join(allowed)}")
        if both := set(self.returns) & {*self.weights, *self.aliases}:
            raise ValueError(f"[events] returns {', '.join(sorted(both))}: is a kind or an alias too; allowed is one")
        return self

    @model_validator(mode="after")
    def _weighted(self) -> "EventSettings":
        if any(w < 0 for w in self.weights.values()) or not any(self.weights.values()):
            raise ValueError("[events.weights] must not be negative, and one must be above 0")
        if len(self.weights) > MAX_KINDS:
            raise ValueError(f"[events.weights] has {len(self.weights)} kinds; at most {MAX_KINDS} are allowed")
        if any(days <= 0 for days in self.half_life_days):
            raise ValueError("[events] half_life_days must be above 0")
        return self

    @property
    def weight_of_new_kinds(self) -> float:
        """The weight of a posted kind that is not among `weights`; 0: its events do not count."""
        if self.new_kind_weight is not None:
            return self.new_kind_weight
        return min(weight for weight in self.weights.values() if weight > 0)

    @property
    def codes(self) -> dict[str, int]:
        """Map each kind to its int8 code, the position in `weights`."""
        return {kind: code for code, kind in enumerate(self.weights)}

    @property
    def words(self) -> dict[str, int]:
        """Map each word of the event column to the code of its kind, and those of returns to RETURN."""
        known = self.codes | dict.fromkeys(self.returns, RETURN)
        return known | {theirs: known[ours] for theirs, ours in self.aliases.items()}


class EvaluationSettings(Section):
    """How models are evaluated: split by time, ranking the whole catalog."""

    validation_days: float = Field(28.0, gt=0, description="Days before the holdout, used to choose settings")
    holdout_days: float = Field(28.0, gt=0, description="Last days, used by the gate")
    targets: tuple[str, ...] = Field(("purchase",), min_length=1, description="Kinds of events that models predict")
    max_users: int = Field(20_000, ge=100, description="Maximum number of users, sampled by the seed")


class RecommendationSettings(Section):
    """What may be recommended."""

    allow_repurchase: bool = Field(
        False, description="Recommend items that the user bought before (groceries: true); evaluation does the same"
    )
    allow_unlisted: bool = Field(
        False, description="Recommend items that have events but no row in the shop's catalog, such as deleted ones"
    )
    exclude_sold_out: bool = Field(True, description="Leave out items whose `available` is false")
    exploration: float = Field(
        0.02, ge=0, le=1, description="Share of the places of for_you that new items get, the last of a list first"
    )


class PlacementSettings(Section):
    """A place on the shop's pages, under a name of its own: [placements.home]."""

    box: str = Field("for_you", description="What is listed: a box of docs/http.md")
    k: int | None = Field(None, ge=1, le=500, description="How many items; unset: 20")
    filter: str | dict[str, Any] | None = Field(None, description="Has to be met, beside the filter of a question")
    rules: dict[str, Any] = Field({}, description="Pins, boosts and the like; those of a question are added")
    fallbacks: tuple[str, ...] | None = Field(
        None, max_length=5, description="Boxes that fill a list that is short; unset: those of the box"
    )
    fields: tuple[str, ...] = Field((), max_length=50, description="Columns of the catalog that come with every item")
    window_days: int | None = Field(None, ge=1, le=3650, description="How many days the box looks back")
    category: str | None = Field(None, min_length=1, max_length=1000, description="Only items of it and those below it")
    starts_at: AwareDatetime | None = Field(None, description="Not answered before; with a zone")
    ends_at: AwareDatetime | None = Field(None, description="Not answered from then on; with a zone")

    @model_validator(mode="after")
    def _in_order(self) -> "PlacementSettings":
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("a placement's ends_at has to be after its starts_at")
        return self


class TrainingSettings(Section):
    """Which models are trained, and with what."""

    models: tuple[str, ...] = Field(
        ("auto",), min_length=1, description="Models to compare: names of recsys.models.contract.MODELS or dotted names"
    )
    budget_minutes: float = Field(
        30.0,
        gt=0,
        description="Time of `auto` to choose, train for the gate and refit; other models ignore it. A tenth more is "
        "for who buys again",
    )
    seed: int = Field(0, ge=0, description="Seed of all random numbers; the same seed repeats a run")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU if there is one")
    processes: int = Field(
        1, ge=1, description="Processes that train `two_tower` and `sequence`; more than 1 share the embedding tables"
    )

    @model_validator(mode="after")
    def _each_once(self) -> "TrainingSettings":
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"[training] models {list(self.models)}: allowed is each model once")
        return self

    @property
    def choice_seconds(self) -> float:
        """The seconds for choosing settings: a third, since two trainings with the chosen settings follow."""
        return self.budget_minutes * 60 / 3


class GateSettings(Section):
    """When a new bundle may replace the live one."""

    max_relative_drop: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Largest share by which NDCG@20 may be below the live bundle's on the same holdout",
    )
    max_data_drop: float = Field(
        0.3, ge=0, lt=1, description="Largest share by which events may be fewer than those of the last good night"
    )


class GuardSettings(Section):
    """Bounds on what a night may be like, beside the last good nights. docs/night.md explains each."""

    max_silence_hours: float = Field(
        18.0, gt=0, description="Hours by which the newest event of a kind may be older than it usually is"
    )
    max_volume_drop: float = Field(
        0.5, gt=0, lt=1, description="Largest share by which a kind's newest 24 hours may be below what is expected"
    )
    max_volume_factor: float = Field(
        5.0, gt=1, description="Largest multiple of what is expected of a kind in the newest 24 hours"
    )
    max_day_change: float = Field(
        0.3, gt=0, description="Largest share by which the events of a past day may differ from an earlier night's"
    )
    max_past_change: float = Field(
        0.02, gt=0, description="Largest share of a kind's past events that may differ from an earlier night's"
    )
    max_repeated: float = Field(
        0.3, gt=0, description="Largest share of a day's events that may come twice beyond the usual"
    )
    max_catalog_drop: float = Field(
        0.2, gt=0, lt=1, description="Largest share by which the catalog may be smaller than at the last good night"
    )
    max_catalog_growth: float = Field(
        1.0, gt=0, description="Largest share by which the catalog may be larger than at the last good night"
    )
    max_available_drop: float = Field(
        0.3, gt=0, lt=1, description="Largest share of the available items that may have sold out since"
    )
    max_text_drop: float = Field(
        0.2, gt=0, le=1, description="Largest drop of the share of items that have a title, or a price"
    )
    max_price_drift: float = Field(
        0.5, gt=0, le=1, description="Largest share of prices that may have moved to another power of two"
    )
    max_category_drift: float = Field(
        0.5, gt=0, le=1, description="Largest share of items that may have moved to another category"
    )
    max_user_share: float = Field(
        0.1, gt=0, le=1, description="Largest share of the events that one user may have, of all or of the last week"
    )
    max_item_share: float = Field(0.3, gt=0, le=1, description="As max_user_share, of one item")
    max_vanished: float = Field(
        0.2, gt=0, le=1, description="Largest share of the users, and of the items, that may be gone"
    )
    max_new: float = Field(0.2, gt=0, le=1, description="Largest share of the users, and of the items, that may be new")
    max_form_change: float = Field(
        0.2, gt=0, le=1, description="Largest share of the ids that may have another form than before"
    )
    max_same_item: float = Field(
        0.9, gt=0, le=1, description="Largest share of the users whose ten best may hold the same item"
    )
    min_overlap: float = Field(
        0.05, ge=0, lt=1, description="Least share of the ten best that users have in common with the live bundle's"
    )


class ContentSettings(Section):
    """Pretrained networks that turn texts and pictures of the catalog into vectors; words need none."""

    text_network: Path | None = Field(
        None,
        description="Folder of a text network of Hugging Face or sentence-transformers, or with an ONNX graph",
        examples=["networks/all-MiniLM-L6-v2"],
    )
    picture_network: Path | None = Field(
        None,
        description="Weights of MobileNetV2, or a folder with weights or an ONNX graph and picture.json",
        examples=["networks/mobilenet_v2.pth"],
    )
    pictures: Path | None = Field(
        None, description="Folder of the pictures whose image_url is no URL", examples=["/srv/shop/media"]
    )
    picture_hosts: tuple[str, ...] = Field(
        (), description="Hosts of pictures that may lie in a private network; others must have public addresses"
    )
    int8: bool = Field(False, description="Whether the text network is kept in 8 bits: a quarter of the size")


class IndexSettings(Section):
    """The search index over item vectors."""

    kind: str = Field(
        "auto",
        description='"auto": the fastest that is measured to find enough. Or a name in recsys.index.registry.INDEXES '
        "or a dotted name",
    )
    min_recall: float = Field(
        0.99, gt=0, le=1, description="Least recall@20 against exact search; below it an exact index is used"
    )


class ApiSettings(Section):
    """The HTTP service of `recsys serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; without API keys only loopback is allowed")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free port, with one worker only")
    workers: int = Field(1, ge=1, le=256, description="Worker processes; they share one memory-mapped bundle")
    threads: int = Field(8, ge=1, le=256, description="Requests that one worker answers concurrently")
    max_wait_seconds: float = Field(
        0.5,
        gt=0,
        description="Wait for the processor from which a request is answered 503 with Retry-After instead of queueing",
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Maximum size of a request body")
    poll_seconds: float = Field(
        1.0, gt=0, description="Seconds between checks for a new bundle and for new and revoked keys"
    )
    database_timeout_seconds: float = Field(
        3.0, gt=0, description="Seconds without an answer after which the database counts as unavailable"
    )
    max_fresh_items: int = Field(
        20_000,
        ge=0,
        description="Maximum number of items new or changed since training; later ones wait for the next, unless they "
        "are deleted or sold out",
    )


class RequestSettings(Section):
    """Which questions and answers are kept, for `GET /v1/requests/{id}`. They are personal data."""

    share: float = Field(0.0, ge=0, le=1, description="Share of the requests that are kept, with their answers")
    days: float = Field(30.0, gt=0, description="Days after which a kept request is deleted")


RECORDED = ("train", "audience", "evaluate", "tune")  # commands whose runs the ledger has under these names


class JobSettings(Section):
    """A job of the schedule, under a name of its own, as [schedule.jobs.mailing]; `train` is the training."""

    command: tuple[str, ...] = Field(
        (),
        description="Words after `recsys`, without --config; unset: the job's name",
        examples=[("source", "check")],
    )
    at: str | None = Field(
        None, max_length=200, description="Cron entry, or @hourly, @daily, @weekly, @monthly", examples=["@daily"]
    )
    after: str | None = Field(
        None, description="Job after whose successful runs it is due, in place of `at`", examples=["train"]
    )
    jitter_minutes: float = Field(
        0.0, ge=0, le=1440, description="Spread of several shops: each is due by its own part of it later"
    )
    timeout_minutes: float | None = Field(None, gt=0, description="As in [schedule], which is the default")
    max_attempts: int | None = Field(None, ge=1, description="As in [schedule], which is the default")
    memory_mb: int | None = Field(
        None, ge=1, description="Memory of all its processes, without mapped files, above which it is ended"
    )
    free_disk_mb: int | None = Field(
        None, ge=0, description="Room in [storage] path without which it does not start, beside last time's need"
    )


JobName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]


class ScheduleSettings(Section):
    """When `recsys schedule` runs what."""

    train: str | None = Field(
        None,
        max_length=200,
        description="Cron entry of the training (minute hour day month weekday); unset: never",
        examples=["0 3 * * *"],
    )
    zone: str = Field("UTC", max_length=50, description='Time zone of the entries, such as "Europe/Berlin"')
    timeout_minutes: float = Field(
        360.0, gt=0, description="Maximum duration of a run; a longer one is stopped and fails"
    )
    grace_seconds: float = Field(20.0, ge=0, description="Time between SIGTERM and SIGKILL when a process is stopped")
    max_attempts: int = Field(3, ge=1, description="Maximum number of starts per due time when the process is killed")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of the scheduler's metrics for Prometheus; unset: none", examples=[9101]
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of that port; whoever reaches it may read the metrics"
    )

    reserve_memory_mb: int = Field(
        256, ge=0, description="Memory that jobs leave free: below it the job is ended before the kernel ends others"
    )
    jobs: dict[JobName, JobSettings] = Field({}, description="Further jobs, by name")

    @model_validator(mode="after")
    def _understood(self) -> "ScheduleSettings":
        where = "[schedule]"
        try:
            time_zone(self.zone)
            if self.train is not None:
                parse_cron(self.train)
            for name, job in self.jobs.items():
                where = f"[schedule.jobs.{name}]"
                self._check_job(name, job)
        except ConfigError as error:
            raise ValueError(f"{where} {error}") from None
        return self

    def _check_job(self, name: str, job: JobSettings) -> None:
        """Raises ConfigError for a job that is never due, or due in two ways."""
        at = [job.at, job.after, self.train if name == "train" else None]
        if sum(entry is not None for entry in at) != 1:
            raise ConfigError("needs one of at and after" + (" and train in [schedule]" if name == "train" else ""))
        if job.at is not None:
            parse_cron(job.at)
        known = {*self.jobs, "train"} - {name}
        if job.after is not None and job.after not in known:
            raise ConfigError(f"after = {job.after!r}: allowed are {', '.join(sorted(known))}")
        if name in RECORDED and job.command and job.command[0] != name:
            raise ConfigError(f"runs {job.command[0]!r}; a job of this name runs `recsys {name}`, choose another name")


class AlertSettings(Section):
    """Alerts of `recsys schedule`, by webhook, e-mail or a command. They are always logged, too."""

    shop: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name of the shop in alerts and metrics; unset: table_prefix",
        examples=["wine shop"],
    )
    webhook_url: SecretStr | None = Field(
        None,
        description="URL to which alerts are posted; unset: no webhook",
        examples=["https://alerts.example.com/recsys"],
    )
    webhook_url_file: Path | None = Field(
        None, description="File that holds the URL, in place of `webhook_url`", examples=["/run/secrets/webhook_url"]
    )
    webhook_form: Literal["json", "slack"] = Field(
        "json", description='"json": every figure as a key; "slack": one text, for Slack and Mattermost'
    )
    command: tuple[str, ...] = Field(
        (),
        description="Program and arguments that get each alert as JSON on standard input; empty: none",
        examples=[("/usr/local/bin/page-operator", "--team", "shop")],
    )
    email_to: tuple[str, ...] = Field(
        (), description="Addresses that get alerts; empty: no e-mail", examples=[("operator@example.com",)]
    )
    email_from: str | None = Field(
        None, description="Sender; unset: recsys@ and the name of the machine", examples=["recsys@example.com"]
    )
    smtp_host: str = Field("localhost", min_length=1, description="Server that takes the e-mail")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port: usually 587 for starttls, 465 for tls")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description='How the connection is encrypted; "none" only for a server on this machine'
    )
    smtp_user: str | None = Field(
        None, description="Account at the server; unset: without an account", examples=["recsys"]
    )
    smtp_password: SecretStr | None = Field(None, description="Its password", examples=["secret"])
    smtp_password_file: Path | None = Field(
        None, description="File that holds the password", examples=["/run/secrets/smtp_password"]
    )
    smtp_ca_file: Path | None = Field(
        None,
        description="Certificates that the server's is checked with; unset: the system's",
        examples=["/etc/ssl/certs/mail.pem"],
    )
    by_hand: bool = Field(False, description="Alerts about runs that a person started, too")
    late_minutes: float | None = Field(
        None,
        gt=0,
        description="Minutes after its due time by which a run has to have ended; unset: no alert about a late one",
        examples=[120.0],
    )
    max_age_hours: float | None = Field(
        None,
        gt=0,
        description="Hours without a successful run after which an alert is sent; unset: never",
        examples=[36.0],
    )
    away_minutes: float = Field(
        5.0, gt=0, description="Minutes without an answer of the service's database after which an alert is sent"
    )

    @model_validator(mode="after")
    def _postable(self) -> "AlertSettings":
        try:
            url = urlsplit(self.webhook_url.get_secret_value() if self.webhook_url else "https://none")
            fits = url.scheme in ("http", "https") and bool(url.hostname) and "@" not in url.netloc and url.port != 0
        except ValueError:
            fits = False
        if not fits:  # the URL is a secret, so the message does not repeat it
            raise ValueError(
                "[alerts] webhook_url is none; allowed is http(s)://HOST[:PORT]/PATH without user or password"
            )
        return self

    @model_validator(mode="after")
    def _mailable(self) -> "AlertSettings":
        addresses = [*self.email_to, *([self.email_from] if self.email_from else [])]
        for address in addresses:
            if address.count("@") != 1 or any(c.isspace() or c in ",;<>" for c in address):
                raise ValueError(f"[alerts] {address!r} is no address; allowed is NAME@DOMAIN, one to an entry")
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError("[alerts] smtp_user and smtp_password belong together; only one of them is there")
        if self.smtp_user is not None and self.smtp_security == "none":
            raise ValueError(
                '[alerts] smtp_security = "none" would send the password in the clear; allowed with it is '
                "starttls or tls"
            )
        return self


class LogSettings(Section):
    """The log of `recsys schedule` and `recsys serve`, on the error stream."""

    form: Literal["text", "json"] = Field("text", description='"text": lines for people; "json": an object a line')


class AudienceSettings(Section):
    """Who may receive a mailing."""

    consent: Literal["required", "assumed"] = Field(
        "required", description='"assumed": users without known consent are included, and every output says so'
    )
    max_unknown_share: float = Field(
        0.5, ge=0, le=1, description="A list of people of which a larger share matches no user is refused"
    )
    lists: dict[str, str] = Field(
        {}, description="Who must not be mailed: name = query or table with user_id or email, each a reason of its own"
    )
    control_share: float = Field(
        0.0, ge=0, le=0.5, description="Of all users, held back from every mailing, so that the effect of all is known"
    )
    max_contacts: int | None = Field(
        None,
        ge=1,
        description="Who had so many mails within contact_days gets no further one; unset: no cap",
        examples=[2],
    )
    contact_days: float = Field(7.0, gt=0, description="The days that max_contacts counts over")
    max_consent_age_days: float | None = Field(
        None,
        gt=0,
        description="Older consent counts no more (email_consent_at of [source] users); unset: it does",
        examples=[730],
    )
    max_lag_days: float = Field(
        14.0, gt=0, description="An audience is refused when its moment lies further behind what training has seen"
    )


class PropensitySettings(Section):
    """Who buys again, who is lost, and for how much: trained each night from purchases."""

    windows_days: tuple[Annotated[int, Field(ge=7, le=365)], ...] = Field(
        (30, 90), max_length=5, description="Within how many days; none: nothing is trained"
    )


class Config(Section):
    """The whole configuration."""

    store: StoreSettings = StoreSettings()
    storage: StorageSettings = StorageSettings()
    source: SourceSettings = SourceSettings()
    imports: ImportSettings = Field(ImportSettings(), alias="import")  # `import` is a word of Python
    events: EventSettings = EventSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    recommendations: RecommendationSettings = RecommendationSettings()
    models: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    guards: GuardSettings = GuardSettings()
    content: ContentSettings = ContentSettings()
    index: IndexSettings = IndexSettings()
    api: ApiSettings = ApiSettings()
    requests: RequestSettings = RequestSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    log: LogSettings = LogSettings()
    audience: AudienceSettings = AudienceSettings()
    propensity: PropensitySettings = PropensitySettings()
    placements: dict[str, PlacementSettings] = Field({}, description="Places on the shop's pages, by name")

    @model_validator(mode="after")
    def _targets_known(self) -> "Config":
        for kind in self.evaluation.targets:
            if kind not in self.events.weights:
                raise ValueError(f"[evaluation] targets {kind!r}: allowed are {', '.join(self.events.weights)}")
        return self

    @property
    def bought(self) -> tuple[str, ...]:
        """The kinds that mean the user bought the item."""
        return self.evaluation.targets if self.events.bought is None else self.events.bought

    @property
    def bought_codes(self) -> list[int]:
        """The int8 codes of the kinds in `bought`."""
        return [self.events.codes[kind] for kind in self.bought]

    @property
    def target_codes(self) -> list[int]:
        """The int8 codes of the kinds that models predict."""
        return [self.events.codes[kind] for kind in self.evaluation.targets]

    def with_kinds(self, weights: Mapping[str, float]) -> "Config":
        """The same with kinds that it does not have yet, their codes behind those of all others: kind -> weight."""
        events = self.events.model_copy(update={"weights": {**self.events.weights, **weights, **self.events.weights}})
        return self.model_copy(update={"events": events})

    def hash(self) -> str:
        """Hash the settings that shape a bundle to eight hex digits. Locations and serving settings are left out."""
        values = self.model_dump(mode="json", exclude=_NOT_HASHED)
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=4).hexdigest()


_NOT_HASHED: dict[str, Any] = {
    **dict.fromkeys(("store", "storage", "imports", "api", "requests", "schedule", "alerts", "log", "audience"), True),
    "guards": True,
    "placements": True,
    # The URL holds a password; the others say how it is read, not what.
    "source": {
        *("url", "url_file", "dialect", "query_timeout_seconds"),
        *("incremental", "overlap_days", "check_nights", "full_read_days", "updated_at"),
    },
    "training": {"processes"},  # the result is the same but for rounding
    # Read by answers; evaluation ranks sold-out and deleted items too.
    "recommendations": {"allow_unlisted", "exclude_sold_out", "exploration"},
}
