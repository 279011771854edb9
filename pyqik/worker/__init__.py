"""What runs: taking jobs, running them, writing their outcomes, and being seen and controlled while doing so.

`engine` is the part that every process has; `upkeep` what it needs beside that in Redis; `processes` is `pyqik work`.
`launcher` has the first two inside of somebody's own program.
"""
