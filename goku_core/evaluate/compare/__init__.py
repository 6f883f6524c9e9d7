"""Two evaluations side by side: what differs by more than chance, what went from right to wrong, the same seeds beside
each other."""
