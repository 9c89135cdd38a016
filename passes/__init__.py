"""Graph to graph, graph to loops, loops to schedule, schedule to plan."""
