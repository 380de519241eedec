"""Run the migrations with the connection and the table prefix that `recsys.store.migrate.migrate` passes."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["prefix"] + "migrations",
)
with context.begin_transaction():
    context.run_migrations()
