-- Attack: Read a secret through its reference.
return "password: " .. secret("env:SCM_PASSWORD")
