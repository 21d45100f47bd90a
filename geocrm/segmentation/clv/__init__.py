"""What customers are worth: how often they will still buy, whether they are still there, what they spend.

Pure mathematics on collapsed counts (`counts`): two models of purchases (`bg_nbd`, `pareto_nbd`), one of value a
purchase (`gamma_gamma`), and the worth that follows from both (`value`). Times are weeks: `recency_weeks` is the time
from the first to the last purchase (not the time since the last), `t_weeks` that from the first purchase to the cutoff.
"""
