"""The report: tables, figures and pages made of what the other stages measured. Nothing here imports torch."""
