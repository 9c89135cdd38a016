"""What a program is: dtypes, ops, graphs, symbols, loops, plans, and their text."""
