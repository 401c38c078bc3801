"""Growth: what a unit of work costs the relay when there is more of everything around it."""
