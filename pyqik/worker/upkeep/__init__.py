"""What a process does in Redis beside running jobs: it beats, polls the schedule, and gives back what the dead held."""
