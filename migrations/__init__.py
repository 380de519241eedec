"""The history of the own tables' shapes, for Alembic; `recsys.store.migrate` runs it, so no alembic.ini is needed."""
