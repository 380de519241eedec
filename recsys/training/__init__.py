"""The room recsys/training."""
