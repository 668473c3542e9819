"""A diagnosis while it is made: how much is measured, the parts, and the tree they end in."""
