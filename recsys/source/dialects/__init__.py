"""The databases that a shop can be read from: one module each, named in `recsys.source.contract.SOURCES`."""
