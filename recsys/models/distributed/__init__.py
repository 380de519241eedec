"""The room recsys/models/distributed."""
