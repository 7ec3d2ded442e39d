-- Attack: Go round the guard of the globals.
rawset(_G, "canary", "poisoned")
