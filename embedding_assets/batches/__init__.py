"""What is asked of the embedding API, and what came back.

documents -> requests -> submit -> (the API) -> results -> balance; `discover` finds what other programs submitted.
Everything here compares what should be with what is and does the difference: it can be run twice, at once, or again
after a crash at any point.
"""
