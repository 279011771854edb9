"""Where the parts of half-written files are kept: a directory, memory. Nothing here knows of jobs."""
