"""Simulated pelvis patients with plans: a cohort to train on where there is no patient data.

    population   who the patients are: measures drawn from published ranges
    shapes       signed distances, and their occupancy of a grid's voxels
    anatomy      a patient's shapes
    phantom      a patient as a case: CT and structures on a grid
    targets      the target of each site, by rule
    planning     a photon plan by pyRadPlan
    cohort       many cases in a folder, made by several processes or machines
    summary      a figure of a cohort
    pictures     cases in three views
    cutoff       what the lateral cut-off of the dose leaves out

Only `planning` needs pyRadPlan; everything else runs without it.
"""
