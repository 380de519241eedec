"""The room jobs/doctor."""
