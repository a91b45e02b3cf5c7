-- ARGV: now, name, owner, ttl. Answers with whether the owner has it now.
local owner, ttl = ARGV[3], tonumber(ARGV[4])
local held = call('HGET', P .. 'leases', ARGV[2])
if held then
  held = cmsgpack.unpack(held)
  if held[1] ~= owner and held[3] == boot and held[2] > lease_now then
    return 0
  end
end
if ttl > 0 then
  call('HSET', P .. 'leases', ARGV[2], cmsgpack.pack({owner, lease_now + ttl, boot}))
  return 1
end
call('HDEL', P .. 'leases', ARGV[2])
return 0
