"""Backward rules, one module per family; importing them all is the business of `training.registry`."""
