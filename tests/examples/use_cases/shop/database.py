"""The application's database, which Rails has made."""

from __future__ import annotations

import os

from sqlalchemy import Engine, create_engine

#: The jobs say `database.engine`, so that a test can put another one here.
engine: Engine = create_engine(os.environ.get("DATABASE_URL", "sqlite://"))
