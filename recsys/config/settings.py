"""The settings: a class for each table of the configuration, a field for each key: its default, limits and meaning."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from recsys.config.cron import parse_cron, time_zone
from recsys.errors import ConfigError


class Section(BaseModel):
    """A table of the file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    n_factors: tuple[Rank, ...] = Field((64, 128, 256, 512), min_length=1, description="Dimensions D")
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
    max_events_per_epoch: int = Field(
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
    normalize_items: tuple[bool, ...] = Field(
        (True, False),
        min_length=1,
        description="Item vectors have length 1, or one that is learnt; the best on validation is taken",
    )
    trend_weights: tuple[float, ...] = Field(
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
    max_events_per_epoch: int = Field(
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
    trend_weights: tuple[float, ...] = Field(
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
        description="Names of recsys.models.contract.MODELS or dotted paths, the cheapest first",
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


class StoreSettings(Section):
    """Where the service keeps its own tables."""

    url: str = Field("sqlite:///recsys.db", description="Database of the service's own tables")
    table_prefix: str = Field("recsys_", pattern=r"^[a-z][a-z0-9_]{0,30}$", description="Their names begin with this")


class StorageSettings(Section):
    """Where files are kept."""

    path: Path = Field(Path("recsys-data"), description="Folder of the bundles and of the extract")
    keep_bundles: int = Field(7, ge=2, description="Published bundles that are kept; older ones are pruned")


class SourceSettings(Section):
    """The shop's database, read and never written. Without queries the service's own tables are the source."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL; a read-only account is enough",
        examples=["postgresql://reader:secret@localhost/shop"],
    )
    dialect: str | None = Field(
        None,
        description="Name in recsys.source.contract.SOURCES or a dotted path; unset: the name in the URL",
        examples=["duckdb_source:DUCKDB"],
    )
    interactions: str | None = Field(
        None,
        description="Query that returns user_id, item_id, event, timestamp and, if there is one, value",
        examples=["SELECT user_id, item_id, event, timestamp FROM shop_events"],
    )
    items: str | None = Field(
        None,
        description="Query that returns item_id and any columns of the catalog",
        examples=["SELECT item_id, title, category, brand, price, available FROM shop_products"],
    )
    users: str | None = Field(
        None,
        description="Query that returns user_id, email_consent and any columns",
        examples=["SELECT user_id, email_consent FROM shop_customers"],
    )
    timezone: str | None = Field(
        None,
        description="Zone of times that name none; unset: UTC, and the check says so",
        examples=["Europe/Berlin"],
    )
    time_format: str | None = Field(
        None,
        min_length=1,
        description="strptime form of times that are text; unset: ISO 8601",
        examples=["%m/%d/%Y %H:%M"],
    )
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="More rows than this share with the same fault: the check refuses the run"
    )

    @model_validator(mode="after")
    def _complete(self) -> "SourceSettings":
        if self.interactions is None and (self.items or self.users):
            raise ValueError("[source] has a query for items or users but none for interactions")
        if self.interactions is not None and self.url is None:
            raise ValueError("[source] has a query for interactions but no url")
        return self


class EventSettings(Section):
    """What an event is worth."""

    aliases: dict[str, str] = Field(
        {}, description='The shop\'s word = ours, as buy = "purchase"; a word of [events.weights] needs no entry'
    )
    weights: dict[str, float] = Field(
        {"view": 0.2, "cart": 0.5, "purchase": 1.0},
        min_length=1,
        description="The kinds and what one event of each counts",
    )
    half_life_days: tuple[float, ...] = Field(
        (30.0, 90.0, 365.0, 36500.0),
        min_length=1,
        description="After so many days an event counts half; of several the best on validation is taken",
    )
    bought: tuple[str, ...] | None = Field(
        None,
        description="Kinds that mean that the user bought the item; unset: [evaluation] targets",
        examples=[("purchase",)],
    )
    own_kinds: tuple[str, ...] | None = Field(
        None,
        description="Kinds taken from events posted to the service; unset: those that the source does not deliver",
        examples=[("view", "cart")],
    )
    dedup_window_minutes: float = Field(
        10.0, ge=0, description="The same user, item and kind from both streams within so many minutes counts once"
    )
    history_length: int = Field(
        500, ge=1, description="Newest events of a user that make the history, beside all that was bought"
    )

    @model_validator(mode="after")
    def _known(self) -> "EventSettings":
        named = [(f"[events.aliases] {theirs} =", ours) for theirs, ours in self.aliases.items()]
        named += [("[events] own_kinds", kind) for kind in self.own_kinds or ()]
        named += [("[events] bought", kind) for kind in self.bought or ()]
        for where, kind in named:
            if kind not in self.weights:
                raise ValueError(f"{where} {kind!r}: allowed are {', '.join(self.weights)}")
        if any(w < 0 for w in self.weights.values()) or not any(self.weights.values()):
            raise ValueError("[events.weights] must not be negative, and one must be above 0")
        if len(self.weights) > 127:
            raise ValueError(f"[events.weights] has {len(self.weights)} kinds; at most 127 are allowed")
        if any(days <= 0 for days in self.half_life_days):
            raise ValueError("[events] half_life_days must be above 0")
        return self

    @property
    def codes(self) -> dict[str, int]:
        """Kind -> its int8 code: the position in `weights`."""
        return {kind: code for code, kind in enumerate(self.weights)}


class EvaluationSettings(Section):
    """How models are judged: by time, with every item as a candidate."""

    validation_days: float = Field(28.0, gt=0, description="Days before the holdout on which settings are chosen")
    holdout_days: float = Field(28.0, gt=0, description="Last days, on which the gate judges")
    targets: tuple[str, ...] = Field(
        ("purchase",), min_length=1, description="Kinds of events that a model has to foresee"
    )
    max_users: int = Field(20_000, ge=100, description="At most so many users, drawn by the seed, are judged")


class RecommendationSettings(Section):
    """What is recommended at all."""

    allow_repurchase: bool = Field(
        False, description="Recommend what the user has bought before (groceries: true); judged likewise"
    )
    exclude_sold_out: bool = Field(True, description="Leave out items whose `available` is false")


class TrainingSettings(Section):
    """What is trained, and on what."""

    models: tuple[str, ...] = Field(
        ("auto",), min_length=1, description="What is judged: names of recsys.models.contract.MODELS or dotted paths"
    )
    budget_minutes: float = Field(
        30.0,
        gt=0,
        description="What `auto`, and no other model, may take to choose, train for the gate and train again",
    )
    seed: int = Field(0, ge=0, description="Makes a run repeatable")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU when there is one")
    processes: int = Field(
        1, ge=1, description="With more than 1, `two_tower` and `sequence` are trained by so many, their tables sharded"
    )

    @model_validator(mode="after")
    def _each_once(self) -> "TrainingSettings":
        if len(set(self.models)) != len(self.models):
            raise ValueError(f"[training] models {list(self.models)}: each model once is allowed")
        return self

    @property
    def choice_seconds(self) -> float:
        """What is there for choosing: two trainings with what was chosen follow, and neither takes longer."""
        return self.budget_minutes * 60 / 3


class GateSettings(Section):
    """When tonight's bundle may replace the live one."""

    max_relative_drop: float = Field(
        0.05, ge=0, lt=1, description="NDCG@20 may be at most this share below the live bundle's on the same holdout"
    )
    max_data_drop: float = Field(
        0.3, ge=0, lt=1, description="Events may be at most this share fewer than the live bundle was trained on"
    )


class IndexSettings(Section):
    """The FAISS index."""

    kind: str = Field("flat", description="Name in recsys.index.registry.INDEXES or a dotted name")
    min_recall: float = Field(
        0.99, gt=0, le=1, description="Below this recall@20 against exact search the exact index is used"
    )


class ApiSettings(Section):
    """The HTTP service of `recsys serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; without a key only loopback is allowed")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any that is free, with one worker only")
    workers: int = Field(1, ge=1, le=256, description="Processes; they share one memory-mapped bundle")
    threads: int = Field(8, ge=1, le=256, description="Requests that one worker answers at the same time")
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Longer bodies are refused while they are read")
    poll_seconds: float = Field(
        1.0, gt=0, description="How often a worker looks for a new bundle, new and revoked keys"
    )
    database_timeout_seconds: float = Field(
        3.0, gt=0, description="After so long without an answer the database counts as away"
    )
    max_fresh_items: int = Field(
        20_000, ge=0, description="Items posted or changed since training that each worker holds; later ones wait"
    )


class ScheduleSettings(Section):
    """When `recsys schedule` runs what."""

    train: str | None = Field(
        None,
        max_length=200,
        description="Cron entry of the training: minute hour day month weekday; unset: never",
        examples=["0 3 * * *"],
    )
    zone: str = Field("UTC", max_length=50, description='Zone that the entries are meant in, as "Europe/Berlin"')
    timeout_minutes: float = Field(360.0, gt=0, description="A run that takes longer is ended, and has failed")
    grace_seconds: float = Field(
        20.0, ge=0, description="From asking a process to end (SIGTERM) to ending it (SIGKILL)"
    )
    max_attempts: int = Field(3, ge=1, description="So often a run whose process is killed is started for one due time")

    @model_validator(mode="after")
    def _understood(self) -> "ScheduleSettings":
        try:
            time_zone(self.zone)
            if self.train is not None:
                parse_cron(self.train)
        except ConfigError as error:
            raise ValueError(f"[schedule] {error}") from None
        return self


class AlertSettings(Section):
    """What `recsys schedule` tells, and whom."""

    webhook_url: SecretStr | None = Field(
        None,
        description="Failed and refused runs are posted there as JSON; unset: they are only logged",
        examples=["https://alerts.example.com/recsys"],
    )
    max_age_hours: float | None = Field(
        None, gt=0, description="No successful run for so long is told too; unset: never", examples=[36.0]
    )

    @model_validator(mode="after")
    def _postable(self) -> "AlertSettings":
        try:
            url = urlsplit(self.webhook_url.get_secret_value() if self.webhook_url else "https://none")
            fits = url.scheme in ("http", "https") and bool(url.hostname) and "@" not in url.netloc and url.port != 0
        except ValueError:
            fits = False
        if not fits:  # the address is a secret, so it is not repeated
            raise ValueError(
                "[alerts] webhook_url is none; allowed is http(s)://HOST[:PORT]/PATH without user or password"
            )
        return self


class AudienceSettings(Section):
    """Whom a mailing may reach."""

    consent: Literal["required", "assumed"] = Field(
        "required", description='"assumed": users of whom no consent is known are mailed too, and every output says so'
    )


class Config(Section):
    """The file."""

    store: StoreSettings = StoreSettings()
    storage: StorageSettings = StorageSettings()
    source: SourceSettings = SourceSettings()
    events: EventSettings = EventSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    recommendations: RecommendationSettings = RecommendationSettings()
    models: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    gate: GateSettings = GateSettings()
    index: IndexSettings = IndexSettings()
    api: ApiSettings = ApiSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    alerts: AlertSettings = AlertSettings()
    audience: AudienceSettings = AudienceSettings()

    @model_validator(mode="after")
    def _targets_known(self) -> "Config":
        for kind in self.evaluation.targets:
            if kind not in self.events.weights:
                raise ValueError(f"[evaluation] targets {kind!r}: allowed are {', '.join(self.events.weights)}")
        return self

    @property
    def bought(self) -> tuple[str, ...]:
        """The kinds that mean that the user bought the item."""
        return self.evaluation.targets if self.events.bought is None else self.events.bought

    @property
    def bought_codes(self) -> list[int]:
        """The int8 codes of the kinds that mean that the user bought the item."""
        return [self.events.codes[kind] for kind in self.bought]

    @property
    def target_codes(self) -> list[int]:
        """The int8 codes of the kinds that a model has to foresee."""
        return [self.events.codes[kind] for kind in self.evaluation.targets]

    def hash(self) -> str:
        """Eight hex digits of everything that shapes a bundle; where data lies and how it is served does not count."""
        values = self.model_dump(mode="json", exclude=_NOT_HASHED)
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=4).hexdigest()


_NOT_HASHED: dict[str, Any] = {
    **dict.fromkeys(("store", "storage", "api", "schedule", "alerts", "audience"), True),
    "source": {"url", "dialect"},  # with its password
    "training": {"processes"},  # however many they are, they learn the same but for rounding
    "recommendations": {"exclude_sold_out"},  # read when it answers; judging lists what is sold out
}
