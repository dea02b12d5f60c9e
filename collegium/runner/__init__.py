"""One run: set up, checked, trained, measured, finished."""
