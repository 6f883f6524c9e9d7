"""Official result files of the benchmarks into records, so that models judged elsewhere stand in the same table."""
