"""`pyqik work` as processes: the supervisor, its children and its guardian; how they are started, watched and ended."""
