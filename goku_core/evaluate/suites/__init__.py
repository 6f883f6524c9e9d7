"""Prompt files of the benchmarks, as they are published, into prompts: one file per format.

Each format is a module with `load(path)`, `per_prompt(prompt)`, MEDIA, FILES (what it reads, from a folder), EXTRA (what it
reads where it is there), PUBLISHED (digests of the published files), LICENCE and NOTICE.
"""
