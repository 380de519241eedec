"""The room recsys/source."""
