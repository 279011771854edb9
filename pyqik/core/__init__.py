"""What every layer needs and that needs no other: errors, clock, events, configuration."""
