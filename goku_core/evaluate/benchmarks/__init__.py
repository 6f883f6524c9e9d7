"""The benchmarks: how many samples each asks for, and how its scores are made of records. One file per benchmark."""
