"""Long attacks on banks, each a program: `python -m tests.stress.NAME --help`. The tests run short versions of them."""
