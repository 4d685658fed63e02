"""What happens now: the overview, dead letters, done events."""
