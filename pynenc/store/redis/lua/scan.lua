-- ARGV: now, filter, first number of submission (0: from the end), whether the oldest come first, how many to find, how many rows to look at, count by or
-- nothing. Answers with where to go on (0: this was all), then id and number of what was found, or name and number of what was counted.
local f = cmsgpack.unpack(ARGV[2])
local cursor, oldest_first, wanted, looks, by = tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local found, totals, looked = {}, {}, 0

local function set_of(values)
  local set = nil
  for _, value in ipairs(values) do
    set = set or {}
    set[value] = true
  end
  return set
end

local tasks, statuses, queues = set_of(f[1]), set_of(f[2]), set_of(f[3])
local tags, parent, workflow, runner, running_key, from, till, text = f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11]
local is_deep = #tags > 0 or parent or workflow or running_key

local function has_tags(m)
  for _, tag in ipairs(tags) do
    local is_there = false
    for _, own in ipairs(m.tags) do
      is_there = is_there or own == tag
    end
    if not is_there then
      return false
    end
  end
  return true
end

local function fits(r)
  if (tasks and not tasks[r.task]) or (statuses and not statuses[r.status]) or (queues and not queues[r.queue]) then
    return false
  elseif (runner and r.runner ~= runner) or r.created < from or (till > 0 and r.created >= till) then
    return false
  elseif text ~= '' and not string.find(r.task, text, 1, true) and sub(r.id, 1, #text) ~= text then
    return false
  elseif is_deep then
    local m = row.meta(r)
    return has_tags(m) and (not parent or m.parent == parent) and (not running_key or m.running_key == running_key)
      and (not workflow or (m.workflow or r.id) == workflow)
  end
  return true
end

local function look(id, r)
  if not fits(r) then
    return
  end
  if by == '' then
    found[#found + 1], found[#found + 2] = id, r.seq
  else
    totals[r[by]] = (totals[r[by]] or 0) + 1
  end
end

local function finish(next_cursor)
  local answer = {next_cursor}
  if by == '' then
    for i = 1, #found do
      answer[i + 1] = found[i]
    end
  else
    for name, n in pairs(totals) do
      answer[#answer + 1], answer[#answer + 2] = name, n
    end
  end
  return answer
end

local function done()
  return looked >= looks or (by == '' and #found >= 2 * wanted)
end

while true do
  local block
  if oldest_first then
    block = call('ZRANGEBYSCORE', P .. 'blocks', math.floor((math.max(cursor, 1) - 1) / BLOCK), '+inf', 'LIMIT', 0, 1)[1]
  else
    block = call('ZREVRANGEBYSCORE', P .. 'blocks', cursor == 0 and '+inf' or math.floor((cursor - 1) / BLOCK), '-inf', 'LIMIT', 0, 1)[1]
  end
  if not block then
    return finish(0)
  end
  block = tonumber(block)
  local ids = call('LRANGE', P .. 'order:' .. block, 0, -1)
  local states, at, last, step = fetch(P .. 'row', ids), 1, #ids, 1
  local within = cursor - block * BLOCK
  if oldest_first then
    at = math.max(1, within)
  else
    at, last, step = (cursor == 0 or within > #ids) and #ids or within, 1, -1
  end
  for i = at, last, step do
    local seq = block * BLOCK + i
    if done() then
      return finish(seq)
    end
    local definition = not states[i] and call('HGET', P .. 'call', ids[i]) or nil
    local head = states[i] or definition
    if head and unpacked('>I8', head) == seq then
      look(ids[i], row.of(ids[i], definition, states[i]))
      row.known = {}
    end
    looked = looked + 1
  end
  cursor = oldest_first and (block + 1) * BLOCK + 1 or block * BLOCK
  if cursor == 0 then
    return finish(0)
  end
end
