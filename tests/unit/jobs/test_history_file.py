import json

import pytest

from jobs.history_file import read_history
from recsys.errors import ConfigError
from recsys.serving.history import InlineEvent

KINDS = ("view", "cart")
NOON = 1_577_880_000_000_000  # 2020-01-01 12:00 UTC
ROWS = [
    {"item_id": "a,1", "kind": "view", "occurred_at": "2020-01-01T12:00:00Z"},
    {"item_id": "Ä", "kind": "cart"},
]
EVENTS = [InlineEvent("a,1", "view", NOON), InlineEvent("Ä", "cart")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        "\n".join(json.dumps(row) for row in ROWS) + "\n\n",
        'item_id,kind,occurred_at\n"a,1",view,2020-01-01T12:00:00Z\nÄ,cart,\n',
        '\ufeffkind,occurred_at,item_id\r\nview,2020-01-01T13:00:00+01:00,"a,1"\r\ncart,,Ä\r\n',
    ],
)
def test_a_history_is_json_lines_or_an_array_or_csv(tmp_path, text):
    (tmp_path / "history").write_text(text, encoding="utf-8", newline="")
    assert read_history(tmp_path / "history", KINDS) == EVENTS


def test_an_empty_file_has_no_events(tmp_path):
    (tmp_path / "history").write_text(" \n")
    assert read_history(tmp_path / "history", KINDS) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item_id,kind\na,view\nb,buy\n", "line 3: unknown kind 'buy'; allowed are view, cart"),
        ("item_id\na\n", "line 1: expected the columns item_id, kind, occurred_at; found item_id"),
        ("item_id,kind\na,view,b\n", "line 2: a cell too many is unknown"),
        ("item_id,kind\na\n", "line 2: unknown kind None"),
        ("item_id,kind\n,view\n", "line 2: item_id is missing"),
        ("item_id,kind,occurred_at\na,view,2020-01-01\n", "line 2: occurred_at '2020-01-01': expected a time with its"),
        ('{"item_id": "a", "kind": "view"}\n{"item_id"', "line 2 is no JSON"),
        ('{"item_id": "a", "kind": "view"}\n[]', "line 2: expected an object"),
        (
            '[{"item_id": "a", "kind": "view"}, {"item_id": 7, "kind": "view"}]',
            "event 2: item_id is missing",
        ),
        ('[{"item_id": "a", "kind": "view", "at": 1}]', "event 1: at is unknown; allowed are item_id, kind"),
        ('[{"item_id": "a", "kind": "view", "occurred_at": 5}]', "event 1: occurred_at 5: expected a time"),
        ('[{"item_id": "", "kind": "view"}]', "event 1: item_id is empty"),
        ("[", "is no JSON"),
    ],
)
def test_a_wrong_event_is_named_by_its_line(tmp_path, text, says):
    (tmp_path / "history").write_text(text)
    with pytest.raises(ConfigError) as message:
        read_history(tmp_path / "history", KINDS)
    assert says in str(message.value)


def test_a_file_of_too_many_events_or_other_letters_or_none_at_all_is_refused(tmp_path):
    (tmp_path / "history").write_text('{"item_id": "a", "kind": "view"}\n' * 1_001)
    with pytest.raises(ConfigError, match="more than 1000 events"):
        read_history(tmp_path / "history", KINDS)
    (tmp_path / "history").write_bytes(b"item_id,kind\n\xff,view\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_history(tmp_path / "history", KINDS)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_history(tmp_path / "nowhere", KINDS)
