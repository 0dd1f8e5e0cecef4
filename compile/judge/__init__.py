"""Whether an artifact may be written: gate, threshold, temperature."""
