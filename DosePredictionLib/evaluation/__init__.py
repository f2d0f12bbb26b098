"""Numbers on a dose: DVH, scores, gamma, clinical goals, and their statistics over a cohort."""
