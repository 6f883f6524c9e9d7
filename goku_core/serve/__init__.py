"""The service: answers requests for pictures and clips from promoted bundles, over HTTP and in process.

orders.py   what is asked for and what is answered
desk.py     takes orders, keeps their queue, hands out tickets and results
app.py      the same over HTTP; the page of `goku_core.serve.page` is mounted in it
"""
