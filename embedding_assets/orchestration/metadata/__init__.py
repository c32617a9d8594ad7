"""What materializations say of themselves, under stable names: only whole numbers and fractions are plotted."""
