"""Where: coordinates, placing, lookups, areas, territories and tiles."""
