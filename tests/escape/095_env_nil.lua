-- Attack: Take the environment away.
_ENV = nil
return deny
