"""What jobs and rounds take: predicted from a profile, or learned while serving."""
