"""The room recsys/index."""
