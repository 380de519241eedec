"""Campaigns as plain values: for the command line, for HTTP and for the report."""

from typing import Any

from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.store.audiences import find_audience
from recsys.store.campaigns import CampaignRecord, Export, campaign_changes, list_campaigns, list_exports
from recsys.store.database import Store

COUNTS = ("members", "mailed", "held_back", "expected_buyers")


def counts_of(facts: dict[str, Any]) -> dict[str, Any]:
    """How many members there are, and how many buyers are expected among the mailed."""
    return {name: facts[name] for name in COUNTS}


def summarize(campaign: CampaignRecord) -> dict[str, Any]:
    """What a list shows of a campaign."""
    return {
        "name": campaign.name,
        "state": campaign.state,
        "changed_at": rfc3339(campaign.changed_at),
        "changed_by": campaign.changed_by,
        "purpose": campaign.definition["purpose"],
        **counts_of(campaign.facts),
        "verdict": None if campaign.measurement is None else campaign.measurement["verdict"],
    }


def describe_all(store: Store) -> list[dict[str, Any]]:
    """All campaigns, the one that was changed last first, with the day after which the members are to be deleted."""
    exported: dict[str | None, int] = {}
    for one in list_exports(store):
        exported[one.campaign] = max(one.began_at, exported.get(one.campaign, 0))
    return [
        {**summarize(one), "delete_after": _delete_after(one, exported.get(one.name))} for one in list_campaigns(store)
    ]


def describe_campaign(store: Store, campaign: CampaignRecord) -> dict[str, Any]:
    """Everything but ids of people: definition, counts, versions, changes, exports and what was measured."""
    exports, audience = list_exports(store, campaign.name), find_audience(store, campaign.audience_id)
    return {
        **summarize(campaign),
        "definition": campaign.definition,
        "audience_id": campaign.audience_id,
        **{name: campaign.facts[name] for name in ("as_of", "bundle", "version", "could_find", "segments")},
        "audience": None
        if audience is None
        else {
            "items": audience.items,
            "strategy": audience.strategy,
            "window_days": audience.window_days,
            "eligible": audience.eligible,
            "left_out": audience.left_out,
            "warnings": audience.warnings,
            "curve": audience.options.get("curve"),
            "consent": audience.consent,
        },
        "delete_after": _delete_after(campaign, max((one.began_at for one in exports), default=None)),
        "changes": [
            {"at": rfc3339(one.changed_at), "action": one.action, "by": one.changed_by}
            for one in campaign_changes(store, campaign.name)
        ],
        "exports": [describe_export(one) for one in exports],
        "measurement": campaign.measurement,
    }


def describe_export(export: Export) -> dict[str, Any]:
    """A row of the register."""
    return {
        "export_id": export.export_id,
        "began_at": rfc3339(export.began_at),
        "finished_at": rfc3339(export.finished_at),
        "destination": export.destination,
        "members": export.members,
        "by": export.exported_by,
    }


def _delete_after(campaign: CampaignRecord, exported_at: int | None) -> str | None:
    """The day until which the members may be kept; None until they are exported."""
    if exported_at is None:
        return None
    kept: int = campaign.definition["retention_days"] * MICROSECONDS_PER_DAY
    return str(rfc3339(exported_at + kept))[:10]
