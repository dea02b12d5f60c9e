"""The loop: it knows neither papers nor teachers."""
