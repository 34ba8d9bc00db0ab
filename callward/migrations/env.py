"""Runs the migrations on the connection that callward.database hands over."""

import importlib
import pkgutil

from alembic import context

import schemas
from schemas.tables import METADATA

for _module in pkgutil.iter_modules(schemas.__path__, "schemas."):  # each may declare tables
    importlib.import_module(_module.name)

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
