"""The servers beside the line: Prefect's, MLflow's, and one worker, as processes of their own below ``.goku/services``.

Neither engine is imported here: they are programs that are started, asked over HTTP and stopped.
"""
