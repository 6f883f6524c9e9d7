"""Judging: the samples of an evaluation folder are looked at once each, by every judge that has something to say.

`run.judge_folder` is the door; `operator` is what runs in the pool's children.
"""
