"""The cluster engine: `Student` over verl's workers and rollout servers.

verl is driven from outside, as an engine. What is used of it are the parts that its trainers are
made of (engine workers, rollout servers and the manager that moves weights between them), none of
the trainers themselves: those change from one patch release to the next.
"""
