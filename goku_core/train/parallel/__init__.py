"""The work of a phase on several ranks: weights in shards, packs in slices."""
