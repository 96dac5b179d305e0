"""What a server of forks has read before its first fork."""

from tests import quick

from howdeep.data import open_data

quick.install()
open_data("digits")
