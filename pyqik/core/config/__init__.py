"""The configuration: one frozen, validated value (`model`), what its fields may hold (`rules`), and where it is read
from (`sources`: files, the environment, flags; `sidekiq_yml` is the Rails app's own file).
"""

from pyqik.core.config.model import Capsule, Config, Middleware

__all__ = ["Capsule", "Config", "Middleware"]
