"""The room recsys/models."""
