"""Published versions of the curated data: list, compare, look into, hand out. A version is a commit record of `curate`."""
