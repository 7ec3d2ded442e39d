-- What the service manager is told, as it arrives at its socket.
local process = require "process"
local program = require "program"

--- A manager: prints each datagram as a line. perl-base is part of every Debian.
local MANAGER = [[
use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
my $name = $ARGV[0];
$name =~ s/^@/\0/;
bind($s, pack_sockaddr_un($name)) or die $!;
$| = 1;
print "bound\n";
while (defined recv($s, my $text, 4096, 0)) { $text =~ s/\n/ | /g; print "$text\n"; }]]

local function manager(t, name)
  local child = process.spawn{argv = {"perl", "-e", MANAGER, name}}
  t:defer(function() child:close() end)
  t:equal(child:read_line "10s", "bound")
  return child
end

local function send(name, text)
  return program.run({"-e", ("print(require('notify').send(%q))"):format(text)},
    {env = {NOTIFY_SOCKET = name}})
end

test("a manager by path and by abstract name is told", function(t)
  for _, name in ipairs{t:tmpdir() .. "/notify", "@secrun-test-" .. process.pid} do
    local child = manager(t, name)
    t:equal(send(name, "READY=1\nSTATUS=fine").stdout, "true\n")
    t:equal(child:read_line "10s", "READY=1 | STATUS=fine")
  end
end)

test("without a manager nothing is sent, and a wrong one is an error", function(t)
  t:equal(send(false, "READY=1").stdout, "false\n")
  t:equal(send("", "READY=1").stdout, "false\n")
  local gone = send("/nowhere/notify", "READY=1")
  t:equal(gone.status, 1)
  assert(gone.stderr:find("service manager at /nowhere/notify", 1, true))
  t:equal(send("relative", "READY=1").status, 1)
  t:equal(send("/" .. ("x"):rep(200), "READY=1").status, 1)
end)

test("the watchdog's time is read if it is meant for this process", function(t)
  local function watchdog(env)
    return program.run({"-e", "print(require('notify').watchdog())"}, {env = env}).stdout
  end
  t:equal(watchdog{WATCHDOG_USEC = "30000000"}, "30.0\n")
  t:equal(watchdog{WATCHDOG_USEC = "30000000", WATCHDOG_PID = "1"}, "\n")
  t:equal(watchdog{WATCHDOG_USEC = "soon"}, "\n")
  t:equal(watchdog{}, "\n")
end)
