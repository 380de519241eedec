"""The cause of a failed reading is told by kind and by name, and never by a value."""

from contextlib import closing

import pytest
import sqlalchemy as sa

from recsys.errors import SourceError
from recsys.source.causes import cause_of
from recsys.source.reader import open_reader


@pytest.mark.usefixtures("store")  # a SQLite file that is there
@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("SELECT user_id FROM no_such_orders", "missing table no_such_orders"),
        ("SELECT there.no_such_column FROM (SELECT 1 AS one) AS there", "missing column no_such_column"),
    ],
)
def test_a_missing_table_or_column_is_named(database, query, cause):
    reader = open_reader(database)
    with pytest.raises(SourceError, match=cause) as error:
        reader.query(query, "interactions")
    reader.close()
    assert error.value.cause == cause


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_that_is_not_there_is_the_network(kind):
    reader = open_reader(f"{kind}://nobody@127.0.0.1:1/none")
    with pytest.raises(SourceError) as error:
        reader.query("SELECT 1 AS one", "items")
    assert error.value.cause == "network"


def test_an_account_that_the_server_does_not_know_is_authentication(database):
    if database.startswith("sqlite"):
        pytest.skip("a file has no accounts")
    reader = open_reader(sa.make_url(database).set(username="no_such_account", password="wrong"))
    with pytest.raises(SourceError) as error:
        reader.query("SELECT 1 AS one", "items")
    assert error.value.cause == "authentication"
    assert "wrong" not in str(error.value)


def test_a_name_that_is_not_in_the_query_is_not_repeated():
    error = RuntimeError('relation "anna@example.com" does not exist')
    assert cause_of(error, "42P01", "SELECT 1") == "missing table"
    assert cause_of(RuntimeError("something else"), None, "SELECT 1") is None


@pytest.mark.parametrize(
    ("database", "end"),
    [("postgresql", "SELECT pg_terminate_backend(pg_backend_pid())"), ("mariadb", "KILL CONNECTION_ID()")],
    indirect=["database"],
)
def test_a_connection_that_ends_in_a_query_is_an_error_and_no_traceback_in_the_log(database, end, caplog):
    with closing(open_reader(database)) as reader:
        query = reader.query("SELECT 1 AS one", "items")
        with pytest.raises(SourceError):
            query.fetch(end)
    assert caplog.text == ""
