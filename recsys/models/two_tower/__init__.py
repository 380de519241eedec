"""The room recsys/models/two_tower."""
