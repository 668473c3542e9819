"""Learning without sampling: moments of the exact posterior, and the updates that rest on them."""
