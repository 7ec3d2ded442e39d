-- Attack: Learn a secret's length.
return #secret("env:SCM_PASSWORD")
