"""The room recsys/data."""
