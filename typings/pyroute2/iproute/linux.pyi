from pyroute2 import IPRoute as IPRoute
