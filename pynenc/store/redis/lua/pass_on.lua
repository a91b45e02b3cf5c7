-- ARGV: now. Somebody was woken who is not idle any more: another one shall look.
for _, queue in ipairs(call('HKEYS', P .. 'queues')) do
  stir(queue, 1)
end
stirs = math.min(stirs, 1)
tell(0)
return 0
