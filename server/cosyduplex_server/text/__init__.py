"""From appended text to segments an engine can speak."""
