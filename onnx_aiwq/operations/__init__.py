"""Cost rules: operators to basic operations."""
