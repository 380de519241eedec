"""The room recsys/bundle."""
