"""The room recsys/audience."""
