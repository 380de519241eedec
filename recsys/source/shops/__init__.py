"""Shop systems whose tables are known: one module each, named in `recsys.source.shops.contract.SHOPS`."""
