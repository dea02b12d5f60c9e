"""Charts and tables of plain numbers: what a record, a comparison and a report are drawn with."""
