"""A page made of run folders: `reading`, `sections`, `comparison`, `page`; `watch` keeps it new."""
