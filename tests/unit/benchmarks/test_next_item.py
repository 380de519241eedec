"""What a public set asks of similar items."""

from benchmarks.next_item import read_questions
from recsys.config.settings import Config

DAY = 86_400


def pairs_of(folder, days=2):
    benchmark, questions, has_times = read_questions(folder, Config(), days)
    ids = benchmark.catalog.ids
    pairs = zip(questions.asked.tolist(), questions.wanted.tolist(), strict=True)
    return {(ids.id_of(asked), ids.id_of(wanted)) for asked, wanted in pairs}, has_times, benchmark


def test_a_view_asks_for_the_next_one_of_its_session(tmp_path):
    rows = [(user, item, "view", day * DAY) for user in (1, 2) for item in (7, 8, 9) for day in range(1, 9)]
    last = 10 * DAY
    rows += [(1, 7, "view", last), (1, 8, "view", last + 60), (1, 8, "view", last + 90), (1, 9, "view", last + 7_000)]
    rows += [(2, 8, "view", last), (2, 9, "view", last + 1_799), (2, 9, "buy", last + 1_800)]
    rows += [(2, 10, "view", last + 1_805)]  # unknown before the last days
    lines = ["user_id,item_id,event,timestamp", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    (tmp_path / "test_purchases.csv").write_text("user_id,item_id\n1,9\n")
    found, has_times, benchmark = pairs_of(tmp_path)
    assert found == {("7", "8"), ("8", "9")}
    assert has_times
    assert benchmark.known.times.max() < 9 * DAY * 1_000_000


def test_the_item_before_the_last_of_a_sequence_asks_for_the_last(tmp_path):
    (tmp_path / "sequences.txt").write_text("1 7 8 9\n2 8 9 7\n3 9 7 8\n4 9 7 11\n")
    found, has_times, _ = pairs_of(tmp_path)
    assert found == {("8", "9"), ("9", "7"), ("7", "8")}  # 11 has no other event
    assert not has_times
