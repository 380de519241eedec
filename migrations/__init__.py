"""The history of the own tables' shapes, for Alembic. `recsys.store.migrate` runs it; no alembic.ini is needed."""
