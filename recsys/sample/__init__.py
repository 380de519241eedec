"""The room recsys/sample."""
