"""What is behind the fake OpenMeter server: its wire, its books, its answers."""
