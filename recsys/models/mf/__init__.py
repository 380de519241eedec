"""The room recsys/models/mf."""
