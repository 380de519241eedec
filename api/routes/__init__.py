"""The endpoints, one file a noun; each has a `router` that `api.app` includes."""
