"""What counts and joules mean: workload (AIWQ), life cycle (eCAL), carbon, and the Landauer floor."""
