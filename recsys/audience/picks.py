"""Picks: the best items for each recipient, a block of recipients at a time.

A block names recipients and items by their ids, so that it can be written to a file by a later process. No event of
anybody is in it. Shapes: B recipients of a block, K places.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from recsys.audience.files import places_of, read_file
from recsys.data.arrays import Int32
from recsys.data.ragged import Ragged
from recsys.errors import ConfigError, RecsysError
from recsys.serving.bulk import REASONS, BulkAnswers
from recsys.serving.fresh_items import CatalogView
from recsys.spelling import meant

BLOCK = 4096  # recipients
LINK, IMAGE = "link", "image_url"
_LINKS = ("link", "url", "product_url")  # columns of the catalog that may hold the address of an item's page
_BLOCK_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("items", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("reasons", pa.list_(pa.string())),
    ]
)


def pick(
    answers: BulkAnswers, view: CatalogView, recipients: Sequence[str], earlier: "Earlier | None" = None
) -> Iterator[pa.Table]:
    """The picks of each recipient, in blocks: user_id, items, scores, reasons. A list is short where fewer may come."""
    items = item_ids(view)
    for start in range(0, len(recipients), BLOCK):
        block = recipients[start : start + BLOCK]
        hits = answers.answer(block, None if earlier is None else earlier.of(block))
        listed = hits.rows >= 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(listed.sum(axis=1))]), pa.int32())
        reasons = pa.array(REASONS).take(pa.array(hits.reasons[listed].astype(np.int64)))
        columns = (items.take(pa.array(hits.rows[listed])), pa.array(hits.scores[listed], pa.float32()), reasons)
        lists = [pa.ListArray.from_arrays(offsets, column) for column in columns]
        yield pa.Table.from_arrays([pa.array(block, pa.string()), *lists], schema=_BLOCK_SCHEMA)


def item_ids(view: CatalogView) -> pa.Array:
    """The id behind every joint row."""
    return pa.array([name for bundle in view.bundles for name in bundle.catalog.ids], pa.string())


class Earlier:
    """What earlier files of picks offered to whom."""

    def __init__(self, paths: Sequence[Path], view: CatalogView) -> None:
        """Raises RecsysError for a file that cannot be read, or that holds no picks."""
        frames = [_offered(path) for path in paths]
        offered = pl.concat(frames).sort("user_id")
        self._users = offered["user_id"]
        names = offered["item_id"].unique()
        rows = pl.Series(view.rows_of(names.to_list()), dtype=pl.Int32)
        self._rows = offered["item_id"].replace_strict(names, rows, return_dtype=pl.Int32)

    def of(self, user_ids: Sequence[str]) -> Ragged:
        """The joint rows that were offered to each of the users [B]."""
        asked = pl.DataFrame({"user_id": user_ids, "owner": range(len(user_ids))}).sort("user_id")
        first, last = asked["user_id"][0], asked["user_id"][-1]
        start, stop = self._users.search_sorted(first, "left"), self._users.search_sorted(last, "right")
        offered = pl.DataFrame({"user_id": self._users[start:stop], "row": self._rows[start:stop]})
        found = offered.filter(pl.col("row") >= 0).join(asked, on="user_id")
        owners, rows = found["owner"].to_numpy().astype(np.int64), found["row"].to_numpy()
        return Ragged.from_pairs(owners, rows, len(user_ids))


def _offered(path: Path) -> pl.DataFrame:
    """The pairs user_id, item_id of a file of picks."""
    frame = read_file(path)
    if path.suffix.lower() == ".csv":
        places = [name for name in frame.columns if name.startswith("item_id_")]
        if "user_id" in frame.columns and places:
            long = frame.unpivot(places, index="user_id", value_name="item_id").select("user_id", "item_id")
            # The apostrophe before what a spreadsheet would take as a formula.
            return long.drop_nulls().with_columns(pl.all().str.replace("^'", ""))
    elif {"user_id", "picks"} <= set(frame.columns):
        long = frame.select("user_id", "picks").explode("picks").drop_nulls()
        return long.select("user_id", pl.col("picks").struct.field("item_id")).cast(pl.String)
    raise RecsysError(f"{path} holds no picks: expected user_id and item_id_1, … or picks, as `recsys picks` writes")


class Shown:
    """What a file says of each item: its title, link, picture, price and further columns of the catalog."""

    def __init__(self, view: CatalogView, fields: Sequence[str], link: str | None, k: int) -> None:
        """fields: columns beside the usual ones. link: an address with {item_id} in it; None: what the catalog says.

        Raises ConfigError for a column that the catalog does not have.
        """
        self.k, columns = k, view.schema.names
        for field in fields:
            if field not in columns:
                raise ConfigError(f"--fields: no such column; allowed are {', '.join(columns)}{meant(field, columns)}")
        if link is not None and "{item_id}" not in link:
            raise ConfigError(f"--link {link!r}: expected an address with {{item_id}} in it")
        answered = np.concatenate(
            [
                np.arange(len(bundle.catalog)) + start if mask is None else np.flatnonzero(mask) + start
                for bundle, start, mask in zip(view.bundles, view.starts, view.standing, strict=True)
            ]
        )
        self._ids = item_ids(view).take(pa.array(answered))
        self._columns = {"item_id": self._ids}
        source = next((name for name in _LINKS if name in columns), None)
        wanted = {"title": "title", LINK: source, IMAGE: IMAGE, "price": "price"} | {name: name for name in fields}
        for name, column in wanted.items():
            if name == LINK and link is not None:
                addresses = [link.replace("{item_id}", quote(item, safe="")) for item in self._ids.to_pylist()]
                self._columns[LINK] = pa.array(addresses, pa.string())
            elif column in columns:
                self._columns[name] = _values(view, str(column), answered)
        kinds = [(name, values.type) for name, values in self._columns.items()]
        item = pa.struct([*kinds, ("score", pa.float32()), ("reason", pa.string())])
        self.schema = pa.schema([pa.field("user_id", pa.string()), places_of("picks", item, k)])

    @property
    def missing(self) -> list[str]:
        """Which of title, link, picture and price the file has not, since the catalog does not say."""
        return [name for name in ("title", LINK, IMAGE, "price") if name not in self._columns]

    def rows(self, block: pa.Table) -> pa.Table:
        """A block as rows of the file. What has left the catalog since it was picked is left out."""
        lists = [block.column(name).combine_chunks() for name in ("items", "scores", "reasons")]
        owners = lists[0].value_parent_indices()
        items, scores, reasons = (column.flatten() for column in lists)
        at = pc.index_in(items, value_set=self._ids)
        known = at.is_valid()
        at, owners = at.filter(known), owners.filter(known)
        values = [column.take(at) for column in self._columns.values()]
        item = self.schema.field("picks").type.value_type
        structs = pa.StructArray.from_arrays(
            [*values, scores.filter(known), reasons.filter(known)], fields=[item.field(i) for i in range(len(item))]
        )
        counts = np.bincount(owners.to_numpy(), minlength=block.num_rows)
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        picks = pa.ListArray.from_arrays(offsets, structs)
        return pa.Table.from_arrays([block.column("user_id"), picks], schema=self.schema)


def _values(view: CatalogView, name: str, rows: Int32) -> pa.Array:
    """What the catalog says of joint rows in a column, in one array."""
    parts = []
    for bundle in view.bundles:
        table = bundle.catalog.columns
        if name not in table.column_names:
            parts.append(pa.nulls(len(bundle.catalog)))
            continue
        column = table.column(name).combine_chunks()
        parts.append(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)
    kind = next(part.type for part in parts if not pa.types.is_null(part.type))
    return pa.concat_arrays([part.cast(kind) for part in parts]).take(pa.array(rows))
