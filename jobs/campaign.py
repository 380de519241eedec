"""`recsys campaign …`: create, list, show, diff, approve, export, measure, report, cancel and delete campaigns.

A campaign is a frozen audience with a purpose, a state and a control group. Each command may be killed anywhere and run
again: a campaign is created as a whole or not at all, and an export begins with its row in the register.
"""

import json
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from jobs import ledger
from jobs.audience import LEASE, Asked, freeze, rules_of, write_members
from jobs.commands import open_configured, open_shop
from jobs.output import Output, Table
from recsys.audience.eligible import HELD_BACK, check_people, describe_changes, describe_left_out, keep_mailable
from recsys.audience.export import check_place
from recsys.audience.inputs import Inputs, Rules, open_inputs
from recsys.bundle import bundle as bundles
from recsys.campaigns.definition import Definition, describe, read_definition
from recsys.campaigns.frozen import could_find, segments_of
from recsys.campaigns.members import held_back, members_of
from recsys.campaigns.outcomes import measure_all, measure_campaign
from recsys.campaigns.report import gather, render
from recsys.campaigns.shown import counts_of, describe_all, describe_campaign, describe_export, summarize
from recsys.config.settings import Config
from recsys.data.folder import failpoint, replace_text
from recsys.data.times import parse_time, readable, rfc3339
from recsys.errors import ConfigError, NotFoundError
from recsys.progress import Progress
from recsys.store.audiences import AudienceRecord, find_audience, list_members
from recsys.store.campaigns import (
    CampaignRecord,
    begin_export,
    change_campaign,
    check_campaign,
    create_campaign,
    delete_campaign,
    find_campaign,
    find_same,
    finish_export,
    list_exports,
)
from recsys.store.database import Store

_LISTED = (
    "name",
    "state",
    "changed_at",
    "changed_by",
    "members",
    "held_back",
    "expected_buyers",
    "delete_after",
    "purpose",
)


def create(config: Config, *, source: Path, by: str | None, progress: Progress) -> Output:
    """Draw and freeze the members that a file asks for, as a draft. The same file again changes nothing.

    source: TOML, or JSON when it begins with a brace; "-": the standard input. Raises ConfigError for wrong keys,
    RefusedError when the name has another definition, and as `jobs.audience.audience`.
    """
    definition = read_definition(_read(source), str(source))
    asked, values = _asked(definition, str(source)), definition.model_dump(mode="json")
    with closing(open_shop(config)) as store:
        known = find_same(store, definition.name, values)
        if known is None:
            with ledger.run(store, LEASE, config) as run:
                inputs, record = _drawn(config, run, asked, str(source), progress)
                members = list_members(store, record.audience_id)
                facts = _facts(definition, record, members, inputs.people)
                row = CampaignRecord(
                    definition.name,
                    "draft",
                    values,
                    record.audience_id,
                    definition.control_share,
                    facts,
                    None,
                    0,
                    by or ledger.who(),
                )
                create_campaign(store, row)
                failpoint("after campaign")
                run.bundle = record.bundle
                run.metrics = {"campaign": definition.name, "audience_id": record.audience_id, **counts_of(facts)}
            known = find_same(store, definition.name, values)  # of two who create at once, one finds the other's
            assert known is not None
        return _shown(store, known)


def show_all(config: Config, *, progress: Progress) -> Output:
    """List the campaigns, the one that was changed last first, and when their members are to be deleted."""
    progress("campaigns", 0.0)
    with closing(open_configured(config)) as store:
        found = describe_all(store)
    progress("campaigns", 1.0)
    return Output(found, [Table("Campaigns", _LISTED, [[one[name] for name in _LISTED] for one in found])])


def show(config: Config, *, name: str, progress: Progress) -> Output:
    """Show a campaign: definition, who is in it, who changed it when, its exports, and what was measured."""
    progress("campaign", 0.0)
    with closing(open_configured(config)) as store:
        output = _shown(store, find_campaign(store, name))
    progress("campaign", 1.0)
    return output


def diff(config: Config, *, first: str, second: str, progress: Progress) -> Output:
    """Show what differs between two campaigns: keys of the definition, facts, and how many members."""
    progress("campaigns", 0.0)
    with closing(open_configured(config)) as store:
        pair = find_campaign(store, first), find_campaign(store, second)
        members = [set(members_of(store, one)["user_id"].to_pylist()) for one in pair]
    progress("campaigns", 1.0)
    flat = [_flat({"definition": one.definition, **counts_of(one.facts), "as_of": one.facts["as_of"]}) for one in pair]
    names = sorted({*flat[0], *flat[1]})
    changed = [[name, flat[0].get(name), flat[1].get(name)] for name in names if flat[0].get(name) != flat[1].get(name)]
    counts = {
        "both": len(members[0] & members[1]),
        "only_first": len(members[0] - members[1]),
        "only_second": len(members[1] - members[0]),
    }
    rows = [[name, *map(_text, values)] for name, *values in changed]
    each = f"{counts['only_first']} only in {first}, {counts['only_second']} only in {second}"
    told = f"members: {counts['both']} in both, {each}"
    data = {"changed": {name: values for name, *values in changed}, "members": counts}
    return Output(data, [Table("What differs", ("key", first, second), rows), told])


def approve(config: Config, *, name: str, by: str | None, progress: Progress) -> Output:
    """Approve a draft, so that it may be exported."""
    return _change(config, name, "approve", by, progress)


def cancel(config: Config, *, name: str, by: str | None, progress: Progress) -> Output:
    """Cancel a campaign that is not sent."""
    return _change(config, name, "cancel", by, progress)


def delete(config: Config, *, name: str, by: str | None, progress: Progress) -> Output:
    """Delete a campaign with its members, and name the exports that are still elsewhere."""
    progress("campaign", 0.0)
    with closing(open_configured(config)) as store:
        exports = delete_campaign(store, name, by=by or ledger.who())
    progress("campaign", 1.0)
    outside = [f"{one.destination} was exported {readable(one.began_at)}: delete it too" for one in exports]
    data = {"name": name, "exports": [describe_export(one) for one in exports]}
    return Output(data, [f"campaign {name} is deleted; its log stays", *outside])


def export(
    config: Config, *, name: str, out: Path, destination: str | None, by: str | None, progress: Progress
) -> Output:
    """Write the members who are mailed, without those held back and those who may no longer be mailed.

    destination: what the register says; None: the file. It has the export before the file is there.
    Raises RefusedError when the campaign is not approved.
    """
    check_place(out)
    actor = by or ledger.who()
    with closing(open_shop(config)) as store:
        campaign = check_campaign(store, name, "export")
        with ledger.run(store, LEASE, config) as run, run.step("export") as counts:
            inputs, record = open_inputs(config, store), _audience(store, campaign)
            everybody = members_of(store, campaign)
            ids = everybody["user_id"].to_pylist()
            mailed = everybody.filter(pa.array(~held_back(name, campaign.control_share, ids)))
            asked = _asked(Definition.model_validate(campaign.definition), name)
            mailable = check_people(inputs, rules_of(asked, config))
            members, gone = keep_mailable(mailed, campaign.facts["mailed"], mailable)
            export_id = begin_export(
                store,
                campaign=name,
                audience_id=campaign.audience_id,
                control_share=campaign.control_share,
                destination=destination or str(out.resolve()),
                members=members.num_rows,
                by=actor,
            )
            progress("write", 0.0)
            guarded = write_members(inputs, record, members, out)
            failpoint("after file")
            finish_export(store, export_id, name, by=actor)
            progress("write", 1.0)
            counts.update(members=members.num_rows, left_since=gone)
            run.bundle, run.metrics = record.bundle, {"campaign": name, "export": export_id}
    data = {"name": name, "export_id": export_id, "members": members.num_rows, "left_since": gone, "out": str(out)}
    data |= {"held_back": campaign.facts["held_back"], "guarded_ids": guarded}
    notes = [f"{members.num_rows} members are written to {out}; {data['held_back']} are held back"]
    if gone:
        notes.append(f"since the campaign was created {describe_changes(gone)}; they are not in the file")
    return Output(data, notes)


def measure(config: Config, *, name: str, sent_at: str | None, by: str | None, progress: Progress) -> Output:
    """Compare the mailed with those held back. When the window is over, the result is kept and the campaign measured.

    sent_at: when the mails went out; None: at the first export. Raises RefusedError when it is not exported.
    """
    progress("measure", 0.0)
    with closing(open_shop(config)) as store:
        campaign = check_campaign(store, name, "measure")
        start = (
            min(one.began_at for one in list_exports(store, name)) if sent_at is None else _moment(sent_at, "--sent-at")
        )
        inputs, record = open_inputs(config, store), _audience(store, campaign)
        members = members_of(store, campaign)
        window = campaign.definition["window_days"] or record.window_days
        found = measure_campaign(inputs, campaign, members, record.items, sent_at=start, window_days=window)
        if found["verdict"] != "window_open":
            change_campaign(store, name, "measure", by=by or ledger.who(), measurement=found)
    progress("measure", 1.0)
    return Output({"name": name, **found}, _measured(found))


def lift(config: Config, *, since: str, until: str | None, progress: Progress) -> Output:
    """Compare all who may be mailed with those held back from every mailing, from a moment on.

    Raises RefusedError when [audience] control_share holds nobody back.
    """
    start = _moment(since, "--since")
    progress("measure", 0.0)
    with closing(open_shop(config)) as store:
        inputs = open_inputs(config, store)
        reasons = [one.excluded for one in check_people(inputs, Rules()).reasons if one.name != HELD_BACK]
        end = inputs.extract.as_of if until is None else _moment(until, "--until")
        found = measure_all(inputs, ~np.any(reasons, axis=0), sent_at=start, until=end)
    progress("measure", 1.0)
    return Output(found, _measured(found))


def report(config: Config, *, name: str, out: Path, progress: Progress) -> Output:
    """Write the report of a campaign: one HTML file that needs no other."""
    check_place(out)
    progress("report", 0.0)
    with closing(open_shop(config)) as store:
        told = gather(store, name, bundles.load(config.storage.path))
    replace_text(out, render(told))
    progress("report", 1.0)
    return Output({"name": name, "out": str(out)}, [f"written to {out}"])


def _shown(store: Store, campaign: CampaignRecord) -> Output:
    told = describe_campaign(store, campaign)
    could = [
        [f"{one['control_share']:.0%}", one["held_back"], one["smallest"], one["relative"], "chosen" * one["chosen"]]
        for one in told["could_find"]
    ]
    columns = ("share held back", "people held back", "smallest rise", "relative", "")
    audience = told["audience"] or {"left_out": {}, "eligible": 0}
    return Output(
        told,
        [
            f"campaign {told['name']} is {told['state']}, by {told['changed_by']}: {told['purpose']}",
            f"{told['members']} members as of {told['as_of']}: {told['mailed']} to be mailed, {told['held_back']} held "
            f"back; expected buyers {told['expected_buyers']:.1f}",
            f"left out: {describe_left_out(audience['left_out'])}; eligible {audience['eligible']}",
            Table("The smallest rise of conversion that would be found in nine of ten campaigns", columns, could),
            Table("Changes", ("at", "action", "by"), [list(one.values()) for one in told["changes"]]),
            Table(
                "Exports",
                ("number", "began", "finished", "to", "members", "by"),
                [list(x.values()) for x in told["exports"]],
            ),
            *(_measured(told["measurement"]) if told["measurement"] else ()),
        ],
    )


def _measured(found: dict[str, Any]) -> list[Table | str]:
    names = {"conversion": "conversion", "spend": "spend for each person"}
    rows = [
        [words, *(found[name][column] for column in ("mailed", "held_back", "difference", "low", "high"))]
        for name, words in names.items()
        if found[name] is not None
    ]
    title = f"{found['mailed']} mailed and {found['held_back']} held back, {found['sent_at']} to {found['until']}"
    return [Table(title, ("", "mailed", "held back", "difference", "from", "to"), rows), found["text"]]


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested keys as one, as definition.audience.size."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _text(value: Any) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def _change(config: Config, name: str, action: str, by: str | None, progress: Progress) -> Output:
    progress("campaign", 0.0)
    with closing(open_configured(config)) as store:
        changed = change_campaign(store, name, action, by=by or ledger.who())
    progress("campaign", 1.0)
    return Output(summarize(changed), [f"campaign {name} is {changed.state}, by {changed.changed_by}"])


def _read(source: Path) -> str:
    try:
        return sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} cannot be read: {error}") from None


def _asked(definition: Definition, where: str) -> Asked:
    """The table `audience` of a definition. Raises ConfigError for wrong keys."""
    try:
        return TypeAdapter(Asked).validate_python(definition.audience)
    except ValidationError as error:
        raise ConfigError(f"{where}: audience.{describe(error)}") from None


def _drawn(
    config: Config, run: ledger.ActiveRun, asked: Asked, where: str, progress: Progress
) -> tuple[Inputs, AudienceRecord]:
    """Draw and freeze. Raises ConfigError where the definition names what is not there, as an item."""
    try:
        found = freeze(config, run, asked, progress)
    except NotFoundError as error:
        raise ConfigError(f"{where}: {error}") from None
    return found.inputs, found.record


def _facts(definition: Definition, record: AudienceRecord, members: pa.Table, people: Any) -> dict[str, Any]:
    """What is frozen beside the audience: counts, versions, and what effect could be found. No ids."""
    ids = members["user_id"].to_pylist()
    back = held_back(definition.name, definition.control_share, ids)
    probability = members["probability"].to_numpy()
    rate = float(probability.mean())
    return {
        "version": version("recsys"),
        "bundle": record.bundle,
        "as_of": rfc3339(record.as_of),
        "members": len(ids),
        "last_rank": max(members["rank"].to_pylist()),
        "held_back": int(back.sum()),
        "mailed": int((~back).sum()),
        "expected_buyers": round(float(probability[~back].sum()), 2),
        "could_find": could_find(rate, len(ids), definition.control_share),
        "segments": segments_of(members, people),
    }


def _audience(store: Store, campaign: CampaignRecord) -> AudienceRecord:
    record = find_audience(store, campaign.audience_id)
    if record is None:
        raise NotFoundError(f"the audience {campaign.audience_id} of the campaign {campaign.name!r} is not there")
    return record


def _moment(text: str, option: str) -> int:
    try:
        return parse_time(text, default_utc=True)
    except (ValueError, OverflowError):
        raise ConfigError(f"{option} {text!r} is no time; allowed is ISO 8601 as 2026-11-23T08:00Z") from None
