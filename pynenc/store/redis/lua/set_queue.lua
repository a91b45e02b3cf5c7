-- ARGV: now, queue, state.
call('HSET', P .. 'queues', ARGV[2], ARGV[3])
call(ARGV[3] == 'draining' and 'SADD' or 'SREM', P .. 'drains', ARGV[2])
if ARGV[3] ~= 'paused' then
  stir(ARGV[2], 1000000)
end
tell(0)
return 0
