"""The room recsys/config."""
