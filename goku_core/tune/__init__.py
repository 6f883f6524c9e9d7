"""Beside the line: trains one phase again and again with other parameters, and compares by validation loss.

request    the section `tune` of params.yaml
change     parameters with other values at some keys
place      a folder in which a phase is trained with them, by the same pipeline, without touching the workspace's models
trial      one such training: watched, pruned, reported
study      Optuna's search over them; goes on after a kill
ablations  fixed comparisons (paper section 5.4)
pages      plots, tables and the page
"""
