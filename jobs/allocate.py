"""`recsys allocate`: several campaigns at once. Who gets which, so that the total expected value is largest.

The same plan over the same frozen audiences gives the same lists. Each file is complete or absent.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs import ledger
from jobs.commands import open_shop
from jobs.output import Output, Table
from recsys.audience.allocation import Allocation, allocate, ranked
from recsys.audience.eligible import describe_changes
from recsys.audience.files import check_file, write_blocks
from recsys.audience.inputs import open_inputs
from recsys.audience.plan import Expected, Plan, expect, read_plan
from recsys.audience.recipients import members_of
from recsys.config.settings import Config
from recsys.data.times import MICROSECONDS_PER_DAY
from recsys.errors import ConfigError
from recsys.progress import Progress
from recsys.store.audiences import find_audience
from recsys.store.database import Store

LEASE = "allocate"
_SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        ("user_id", pa.string()),
        ("probability", pa.float64()),
        ("expected_value", pa.float64()),
        ("reason", pa.string()),
        ("consent", pa.string()),
    ]
)


def allocation(config: Config, *, plan_file: Path, folder: Path, ending: str = "csv", progress: Progress) -> Output:
    """Allocate the members of the audiences of a plan, and write a file for each campaign into a folder.

    Members who may no longer be mailed are left out. Raises ConfigError for a wrong plan, RefusedError when the sizes
    cannot be met.
    """
    plan = read_plan(plan_file)
    files = {name: folder / f"{name}.{ending}" for name in plan.campaigns}
    if not folder.is_dir():
        raise ConfigError(f"--out-folder {folder} is no folder")
    for file in files.values():
        check_file(file)
    with closing(open_shop(config)) as store, ledger.run(store, LEASE, config) as run:
        progress("load", 0.0)
        with run.step("load") as counts:
            inputs = open_inputs(config, store)
            found = {name: members_of(inputs, one.audience) for name, one in plan.campaigns.items()}
            members = {name: table for name, (table, _) in found.items()}
            expected = expect(plan, members)
            counts.update(users=len(expected.user_ids), members={name: len(table) for name, table in members.items()})
        progress("load", 1.0)
        progress("allocate", 0.0)
        with run.step("allocate") as counts:
            limits = [one.limits for one in plan.campaigns.values()]
            chosen = allocate(expected.values, limits, plan.per_user)
            counts.update(value=chosen.value, bound=chosen.bound)
        progress("allocate", 1.0)
        consent = "assumed" if config.audience.consent == "assumed" else "given"
        with run.step("write"):
            for number, (name, file) in enumerate(files.items()):
                write_blocks(file, _SCHEMA, [_rows(expected, chosen, number, members[name], consent)])
        data = _data(plan, expected, chosen, files)
        data["left_since"] = {name: gone for name, (_, gone) in found.items() if gone}
        data["warnings"] = _warnings(store, plan)
        run.metrics = {name: data[name] for name in ("users", "value", "bound", "unconstrained", "loss")}
    return Output(data, _parts(data))


def _rows(expected: Expected, chosen: Allocation, number: int, members: pa.Table, consent: str) -> pa.Table:
    """The rows of a campaign's file, those of most value first."""
    users = ranked(chosen.chosen, expected.values, number)
    reasons = dict(zip(members["user_id"].to_pylist(), members["reason"].to_pylist(), strict=True))
    ids = [expected.user_ids[user] for user in users.tolist()]
    columns = [
        list(range(1, len(ids) + 1)),
        ids,
        expected.probability[users, number],
        expected.values[users, number],
        [reasons[user] for user in ids],
        [consent] * len(ids),
    ]
    return pa.table(
        [pa.array(values, kind.type) for values, kind in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
    )


def _data(plan: Plan, expected: Expected, chosen: Allocation, files: dict[str, Path]) -> dict[str, Any]:
    campaigns = []
    for number, (name, one) in enumerate(plan.campaigns.items()):
        own = chosen.chosen[:, number]
        campaigns.append(
            {
                "campaign": name,
                "audience": one.audience,
                "users": int(own.sum()),
                "min_size": one.min_size,
                "max_size": one.max_size,
                "expected_buyers": round(float(expected.probability[own, number].sum()), 2),
                "expected_value": round(float(expected.values[own, number].sum()), 2),
                "out": str(files[name]),
            }
        )
    return {
        "users": len(expected.user_ids),
        "per_user": plan.per_user,
        "campaigns": campaigns,
        "value": round(chosen.value, 2),
        "bound": round(chosen.bound, 2),
        "unconstrained": round(chosen.unconstrained, 2),
        "loss": round(chosen.loss, 6),
    }


def _warnings(store: Store, plan: Plan) -> list[str]:
    """Say when the probabilities of the audiences do not compare."""
    records = [record for one in plan.campaigns.values() if (record := find_audience(store, one.audience)) is not None]
    warnings = []
    if len({round(record.window_days, 1) for record in records}) > 1:
        days = ", ".join(f"{record.window_days:.1f}" for record in records)
        warnings.append(f"the probabilities of the audiences hold for different numbers of days: {days}")
    moments = [record.as_of for record in records]
    if max(moments) - min(moments) > MICROSECONDS_PER_DAY:
        warnings.append("the audiences were drawn as of moments that lie more than a day apart")
    return warnings


def _parts(data: dict[str, Any]) -> list[Table | str]:
    columns = ("campaign", "users", "min_size", "max_size", "expected_buyers", "expected_value", "out")
    rows = [[one[column] for column in columns] for one in data["campaigns"]]
    gone = [f"{name}: since it was frozen {describe_changes(left)}" for name, left in data["left_since"].items()]
    return [
        Table(f"{data['users']} users, at most {data['per_user']} campaigns for each", columns, rows),
        f"expected value {data['value']:.2f}; the best within the limits is at most {data['bound']:.2f}",
        f"without sizes it would be {data['unconstrained']:.2f}: they cost {100 * data['loss']:.1f} %",
        *gone,
        *(f"warning: {warning}" for warning in data["warnings"]),
    ]
