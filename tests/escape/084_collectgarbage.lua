-- Attack: Steer the collector.
collectgarbage("stop")
while true do local _ = {} end
