-- Attack: Load a module.
return require("fs")
