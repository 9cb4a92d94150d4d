"""The models that come with the package, and a script that trains one."""
