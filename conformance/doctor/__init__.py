"""`aoti-conformance doctor`: what of this machine gets in the way, and the cure.

This process imports no torch. What may crash or hang is tried in children with a
deadline; a child that dies is a finding.
"""
