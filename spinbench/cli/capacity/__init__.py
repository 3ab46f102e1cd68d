"""`spinbench capacity`: the largest request rate that keeps the limits."""
