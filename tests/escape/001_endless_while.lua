-- Attack: An empty loop without end.
while true do end
