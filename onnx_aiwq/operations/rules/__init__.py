"""One module per operator family; importing a module registers its rules. Rules never import one another."""
