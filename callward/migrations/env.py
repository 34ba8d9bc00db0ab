"""Runs the migrations on the connection that callward.database hands over."""

from alembic import context

from schemas.retention import METADATA  # of all tables

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
