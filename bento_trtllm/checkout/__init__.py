"""What the scripts of a checkout decide. A script itself finds a Python and runs what is here.

serve.py, environment.py and container.py import only what comes with Python: they run before anything is installed.
"""
