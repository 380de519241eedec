"""The room jobs/schedule."""
