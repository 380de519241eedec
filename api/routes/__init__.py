"""The room api/routes."""
