"""Speed, as ratios against a stated rival in the same run: `make bench`, `make bench-quick`."""
