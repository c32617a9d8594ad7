"""One ChromaDB folder on disk: merge into it, read it, examine it. Knows no store and no collection's history.

Whatever opens a database with chromadb does so in a child process (`child.run`), for three reasons that were
measured on chromadb 1.5.9: close() is asynchronous, clients on one path share state, and a damaged file can kill
the interpreter.
"""
