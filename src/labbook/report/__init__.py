"""The report: site, tables and print figures with the results of the other stages. This package does not import torch."""
