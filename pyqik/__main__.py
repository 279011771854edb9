"""`python -m pyqik` is the same as the command `pyqik`."""

from __future__ import annotations

import sys

from pyqik.cli import main

if __name__ == "__main__":
    sys.exit(main())
