"""Run what a backend made: sessions, calibration, measurement, agreement."""
