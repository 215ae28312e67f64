"""The worker's end of worker processes: starting them, what they give up, what they answer.

Runs in processes of its own; the daemon imports nothing here.
"""
