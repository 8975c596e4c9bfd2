"""What is kept from run to run, on this machine or in a registry, so that nothing is done twice."""
