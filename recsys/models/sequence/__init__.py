"""The room recsys/models/sequence."""
