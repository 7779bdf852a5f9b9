"""The report: site, tables and print figures with the results of the other stages. Nothing here imports torch."""
