"""The room recsys/store."""
