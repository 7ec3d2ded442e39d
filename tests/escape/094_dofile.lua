-- Attack: Run another file.
return dofile("/etc/hosts")
