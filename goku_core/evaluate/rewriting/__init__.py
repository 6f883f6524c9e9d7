"""Prompts said in other words before a model is given them. Judges are always asked about the benchmark's own words."""
