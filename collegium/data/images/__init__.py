"""Images from files and tables: found, decoded, checked and loaded."""
