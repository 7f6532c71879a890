"""What people and machines see of a run: events with stable codes, progress, run results."""
