"""Pen-and-paper exercises of the assignments: functions that compute the results, and a page that shows the solutions."""
