-- The beginning of every script. KEYS[1] is the prefix of all keys of the app; ARGV[1] is 0 for the time of this server, or a time, one for
-- leases and a name for what they belong to.
local P = KEYS[1]
local call, sub, pack, unpacked = redis.call, string.sub, struct.pack, struct.unpack
local now, lease_now, boot
if ARGV[1] == '0' then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
  lease_now, boot = now, ''
else
  now, lease_now, boot = string.match(ARGV[1], '^(%d+) (%d+) (.*)$')
  now, lease_now = tonumber(now), tonumber(lease_now)
end
-- Arguments that one command takes; the stack of Lua holds about 8,000 values.
local MOST = 4000
-- What a call and a state begin with: seq, created, flags, result_ttl, task, queue.
local HEAD = '>I8I8BI8I2c0I2c0'
-- Rows of one block of the order of submission.
local BLOCK = 512
-- Boosts are counted down from here, so that the latest comes first.
local BOOSTS = 9000000000000000
-- Bits of the flags: it has a running key or a rate; something ends with its first claim (registration, expiry); its success answers others.
local KEYED, FIRST, CACHED = 1, 2, 4
