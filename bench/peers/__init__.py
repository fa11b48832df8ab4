"""What other actor systems and supervisors do. Those of a Python of their own (`make peers`) know nothing of us."""
