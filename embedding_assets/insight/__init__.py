"""Numbers and pictures of a collection's vectors, from a sample of them; knows no store and no database."""
