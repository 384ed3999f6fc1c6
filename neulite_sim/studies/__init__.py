"""Studies: many runs or none. Sweeps, what-if tables, calibration and audits."""
