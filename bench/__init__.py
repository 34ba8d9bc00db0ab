"""Speed and memory, measured on whole processes: `make bench`, or `python -m bench.bench --help`."""
