-- Attack: Reach the registry.
return debug.getregistry()
