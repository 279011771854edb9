"""What runs: taking jobs, running them, writing their outcomes, and being seen and controlled while doing so."""
