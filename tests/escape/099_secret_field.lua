-- Attack: Look into a secret.
return secret("env:SCM_PASSWORD").value
