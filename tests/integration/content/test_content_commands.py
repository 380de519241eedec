"""`recsys content` on a trained shop: what has a vector, what is alike, and whether a network works."""

import json
from pathlib import Path

import pytest
import tiny_networks
from command_line import run_here


def content(shop: Path, *words: object, code: int = 0, **environment: str):
    done = run_here("content", *map(str, words), "--config", shop / "recsys.toml", "--json", **environment)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, str]:
    text, pictures = tiny_networks.text_graph(tmp_path / "text"), tiny_networks.picture_graph(tmp_path / "pictures")
    return {"RECSYS_CONTENT__TEXT_NETWORK": str(text), "RECSYS_CONTENT__PICTURE_NETWORK": str(pictures)}


def test_a_catalog_is_encoded_and_the_next_time_only_what_is_new(shop: Path, networks: dict[str, str]) -> None:
    [words] = content(shop, "encode")
    assert (words["encoder"], words["items"], words["with_vector"]) == ("words", 200, 200)
    every = content(shop, "encode", **networks)
    assert [one["encoder"] for one in every] == ["words", "text", "pictures"]
    text, pictures = every[1:]
    assert (text["with_vector"], text["dimensions"], text["weights"]["license"]) == (200, 8, "Apache-2.0")
    assert text["encoded"] > 0
    assert pictures["with_vector"] == 0
    assert sum(pictures["problems"].values()) == 200
    [again] = content(shop, "encode", "--encoder", "text", **networks)
    assert again["encoded"] == 0
    done = run_here("content", "encode", "--config", shop / "recsys.toml", **networks)
    assert "Items without a vector" in done.stdout


def test_items_that_are_alike_have_words_in_common(shop: Path) -> None:
    item = content(shop, "similar", "P00005", "-k", 3)
    assert item["item"]["item_id"] == "P00005"
    assert len(item["hits"]) == 3
    scores = [hit["score"] for hit in item["hits"]]
    assert sorted(scores, reverse=True) == scores
    assert scores[0] > 0.1
    assert "P00005" not in [hit["item_id"] for hit in item["hits"]]
    done = run_here("content", "similar", "nobody", "--config", shop / "recsys.toml")
    assert (done.returncode, "the item 'nobody' is not among the 200" in done.stderr) == (1, True)
    done = run_here("content", "similar", "P00005", "--encoder", "text", "--config", shop / "recsys.toml")
    assert (done.returncode, "text_network is not set" in done.stderr) == (2, True)


def test_the_doctor_tells_libraries_licenses_and_what_does_not_work(shop: Path, networks: dict[str, str]) -> None:
    found = {row["check"]: row for row in content(shop, "doctor")}
    assert found["library torch"]["found"].startswith("2.")
    assert found["encoder text"]["found"] == "not configured"
    found = {row["check"]: row for row in content(shop, "doctor", **networks)}
    assert "license Apache-2.0, sha256 " in found["encoder text"]["detail"]
    assert found["encoder pictures"]["found"] == "works"
    (Path(networks["RECSYS_CONTENT__TEXT_NETWORK"]) / "tokenizer.json").unlink()
    found = {row["check"]: row for row in content(shop, "doctor", code=1, **networks)}
    assert "has no tokenizer.json" in found["encoder text"]["detail"]
