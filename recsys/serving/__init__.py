"""The room recsys/serving."""
