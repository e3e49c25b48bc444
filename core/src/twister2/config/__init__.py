"""Configuration: one attrs class per plugin and for the job; layers with origins; all problems at once."""
