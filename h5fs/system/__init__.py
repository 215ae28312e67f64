"""What several rooms ask of the system: mounts, processors, its errors, Python itself."""
