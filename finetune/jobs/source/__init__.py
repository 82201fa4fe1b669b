"""What build.py makes the cloud scripts of: they import the checkout; what is made of them carries it along."""
