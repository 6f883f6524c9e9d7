"""Who looks at samples: one file per judge, found by name in `judge.JUDGES`."""
