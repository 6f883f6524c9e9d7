"""What is checked before a version is published, beside the expectations on its rows: nothing lost, nothing drifted."""
