"""Which nodes become int8 for which target, and how that is written into the graph."""
