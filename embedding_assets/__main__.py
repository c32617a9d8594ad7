"""`python -m embedding_assets`: the command line."""

from embedding_assets.cli import main

if __name__ == "__main__":
    main()
