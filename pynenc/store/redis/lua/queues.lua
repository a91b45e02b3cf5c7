-- Answers with name, state, ready, later, parked, claimed and oldest of each queue.
local claimed, answers = {}, {}
local tally = call('HGETALL', P .. 'tally')
for i = 1, #tally, 2 do
  local status, queue = unpacked('>BI2c0', tally[i])
  if status == PENDING or status == RUNNING then
    claimed[queue] = (claimed[queue] or 0) + tonumber(tally[i + 1])
  end
end

-- Since when the oldest row of a queue can be claimed.
local function oldest(queue)
  local names, found = {P .. 'q:' .. queue, P .. 's:' .. queue}, 0
  for _, task in ipairs(call('SMEMBERS', P .. 'T:' .. queue)) do
    names[#names + 1] = line.passed(queue, task)
  end
  for _, name in ipairs(names) do
    for _, kind in ipairs({':p', ':a'}) do
      local id = call('ZRANGE', name .. kind, 0, 0)[1]
      local r = id and row.load(id)
      local since = r and math.max(r.created, r.due) or 0
      if since > 0 and (found == 0 or since < found) then
        found = since
      end
    end
  end
  return found
end

local known = call('HGETALL', P .. 'queues')
for i = 1, #known, 2 do
  local queue = known[i]
  answers[#answers + 1] = {
    queue, known[i + 1], line.claimable(queue), call('ZCARD', P .. 'later:' .. queue),
    tonumber(call('HGET', P .. 'parked', queue) or 0), claimed[queue] or 0, string.format('%.0f', oldest(queue)),
  }
end
return answers
