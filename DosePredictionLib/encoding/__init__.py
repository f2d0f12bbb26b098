"""From a case to the network's input, and from its output back onto the case's grid."""
