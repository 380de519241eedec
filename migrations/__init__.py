"""The Alembic migrations of the own tables. `recsys.store.migrate` runs them, so no alembic.ini is needed."""
