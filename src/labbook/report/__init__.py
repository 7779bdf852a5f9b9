"""The report: site, tables and print figures of what the other stages measured. Nothing here imports torch."""
