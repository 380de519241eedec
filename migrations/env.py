"""Runs the migrations on the connection, and with the table prefix, that `recsys.store.migrate.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["prefix"] + "migrations",
)
with context.begin_transaction():
    context.run_migrations()
