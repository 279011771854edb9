"""The zoo's jobs, behind an import that takes until the gate `import` opens."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.support.jobs import GLANCE, ZOO_VARIABLE, Zoo

while not Zoo(Path(os.environ[ZOO_VARIABLE])).is_open("import"):
    threading.Event().wait(GLANCE)
