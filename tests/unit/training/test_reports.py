"""What a person reads after a command says what was found and why."""

from tiny import quiet

from jobs.model_tables import comparison
from jobs.reading import import_files
from recsys.config.settings import Config


def test_why_a_candidate_is_not_in_the_blend_is_told():
    parts = [
        {"model": "mf", "weight": 1.0, "settings": {}},
        {"model": "two_tower", "weight": 0.05, "settings": {"epochs": 0}},
    ]
    alone = {"mf": 0.5, "two_tower": 0.3, "popularity": 0.1, "blend": 0.6}
    skipped = {"sequence": "no order"}
    rows = comparison("auto", {"parts": parts, "comparison": alone, "skipped": skipped}).rows
    assert [row[:3] for row in rows] == [
        ["mf", 0.5, 1.0],
        ["two_tower", 0.3, 0.05],
        ["popularity", 0.1, ""],
        ["blend", 0.6, ""],
        ["sequence", "", ""],
    ]
    shown = {row[0]: row[3] for row in rows}
    assert shown["mf"] == shown["blend"] == ""
    assert "no epoch" in shown["two_tower"]
    assert "no more than chance" in shown["popularity"]
    assert shown["sequence"] == "no order"


def test_an_import_shows_what_could_not_be_read_though_no_row_is_left_out(tmp_path):
    config = Config.model_validate({"store": {"url": f"sqlite:///{tmp_path}/own.db"}})
    items = tmp_path / "items.csv"
    items.write_text("item_id,title,price\na,Lamp,twelve\n" + "".join(f"{at},Lamp,12\n" for at in range(200)))
    _, _, left_out, findings = import_files(
        config, paths=[items], what="items", preset=None, columns={}, progress=quiet
    ).parts
    assert left_out.rows == []
    assert any("price" in row[1] and row[0] == "warning" for row in findings.rows)
