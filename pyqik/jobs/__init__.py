"""What authors of jobs use: declaring them, enqueueing them, and asking about the one that runs."""
