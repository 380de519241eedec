"""The lists that are judged offline are those that the service answers."""

import numpy as np
from serving import ids

from recsys.bundle import bundle as bundles
from recsys.bundle import versions
from recsys.bundle.bundle import assemble
from recsys.config.loading import load_config
from recsys.data.extract import open_extract
from recsys.data.splits import split_by_time
from recsys.data.targets import targets_of
from recsys.data.times import MICROSECONDS_PER_DAY, rfc3339
from recsys.serving.eligibility import available_items, bought_rows
from recsys.serving.fresh_items import CatalogView
from recsys.serving.recommender import REASONS, recommend
from recsys.training.metrics import ranking_metrics

DAYS = 120
K = 20


def test_metrics_of_answers_over_http_equal_the_evaluation_to_the_last_digit(serve, shop):
    server = serve(RECSYS_RECOMMENDATIONS__EXCLUDE_SOLD_OUT="false", RECSYS_RECOMMENDATIONS__EXPLORATION="0")
    extract, bundle = open_extract(shop / "recsys-data"), bundles.load(shop / "recsys-data")
    cut = extract.as_of - DAYS * MICROSECONDS_PER_DAY
    known, holdout = extract.events.before(cut), extract.events.between(cut, extract.as_of)
    codes = [bundle.kinds.index("purchase")]
    targets = targets_of(holdout, known, target_codes=codes, bought_codes=codes)
    histories = known.histories(targets.users, cut, 500)
    view = CatalogView(bundle)
    offline = recommend(view, histories, K, excluded=bought_rows(view, histories, codes))
    assert len(targets.users) > 100

    online = np.full((len(targets.users), K), -1, np.int32)
    scores = np.full((len(targets.users), K), -np.inf, np.float32)
    for at, user in enumerate(targets.users):
        start, stop = known.offsets[user], known.offsets[user + 1]
        past = [
            {
                "item_id": extract.items.id_of(int(known.items[event])),
                "kind": extract.kinds[known.kinds[event]],
                "occurred_at": rfc3339(int(known.times[event])),
            }
            for event in range(max(start, stop - 500), stop)
        ]
        answer = server.ask(history=past, as_of=rfc3339(cut), k=K)
        found = bundle.catalog.ids.rows_of(ids(answer))
        online[at, : len(found)] = found
        scores[at, : len(found)] = [hit["score"] for hit in answer["hits"]]

    assert np.array_equal(online, offline.rows)
    assert np.array_equal(scores, offline.scores)
    degrees = np.bincount(known.items, minlength=known.item_count)
    assert ranking_metrics(online, targets, item_counts=degrees) == ranking_metrics(
        offline.rows, targets, item_counts=degrees
    )


def test_the_published_figures_of_the_holdout_come_out_of_answers_over_http_to_the_last_digit(serve, shop):
    """The bundle's vectors from before its refit, served: each user as they were when the holdout began."""
    config, folder = load_config(shop / "recsys.toml", {}), shop / "recsys-data"
    extract, bundle = open_extract(folder), bundles.load(folder)
    splits = split_by_time(
        extract.events,
        validation_days=config.evaluation.validation_days,
        holdout_days=config.evaluation.holdout_days,
    )
    judged = assemble(
        bundle.evaluation,
        bundle.catalog,
        np.asarray(bundle.popularity),
        kinds=bundle.kinds,
        index_settings=config.index,
    )
    version = bundles.save(judged, folder, facts={"config_hash": "00000000"})
    versions.publish(folder, version)
    server = serve(RECSYS_RECOMMENDATIONS__EXCLUDE_SOLD_OUT="false", RECSYS_RECOMMENDATIONS__EXPLORATION="0")
    codes = {"target_codes": config.target_codes, "bought_codes": config.bought_codes}
    targets = targets_of(splits.holdout, splits.known, **codes)
    rows = np.full((len(targets), K), -1, np.int32)
    for at, user in enumerate(targets.users):
        answer = server.ask(user_id=extract.users.id_of(int(user)), as_of=rfc3339(splits.holdout_start), k=K)
        assert answer["bundle"] == version
        found = bundle.catalog.ids.rows_of(ids(answer))
        rows[at, : len(found)] = found
    degrees = np.bincount(splits.known.items, minlength=splits.known.item_count)
    figures = bundle.manifest["metrics"]["models"]["mf"]["all"]
    assert figures["users"] == len(targets) > 30
    assert ranking_metrics(rows, targets, item_counts=degrees) == figures


def test_a_user_gets_what_the_engine_finds_for_the_history_on_disk_one_by_one_and_all_at_once(serve, shop):
    server = serve(RECSYS_RECOMMENDATIONS__EXPLORATION="0")
    extract, bundle = open_extract(shop / "recsys-data"), bundles.load(shop / "recsys-data")
    users = np.arange(0, len(extract.users), 3)
    view, allowed = CatalogView(bundle), [available_items(bundle.catalog)]
    for user in users:
        answer = server.ask(user_id=extract.users.id_of(int(user)), as_of=rfc3339(extract.as_of), k=K)
        history = extract.events.histories(np.array([user]), extract.as_of, 500)
        hits = recommend(view, history, K, allowed=allowed, excluded=bought_rows(view, history, [2]))
        assert ids(answer) == bundle.catalog.ids.ids_of(hits.rows[0][hits.rows[0] >= 0])
        assert [hit["reason"] for hit in answer["hits"]] == [REASONS[r] for r in hits.reasons[0] if r >= 0]
    histories = extract.events.histories(users, extract.as_of, 500)
    together = recommend(view, histories, K, allowed=allowed, excluded=bought_rows(view, histories, [2]))
    answers = [server.ask(user_id=extract.users.id_of(int(u)), as_of=rfc3339(extract.as_of), k=K) for u in users]
    assert [bundle.catalog.ids.rows_of(ids(answer)).tolist() for answer in answers] == together.rows.tolist()
