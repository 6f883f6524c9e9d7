"""Prompt files of the benchmarks, as they are published, into prompts: one file per format."""
