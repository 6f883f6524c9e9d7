"""The benchmarks' own folders and file names, in and out. Inside an evaluation a sample is named by its id and nothing else."""
