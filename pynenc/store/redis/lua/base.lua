-- What nearly all scripts need: long argument lists, and telling who must hear of what was done.

-- Calls a command with any number of values, ``width`` of which belong together.
local function each(command, key, values, width)
  local step = MOST - MOST % (width or 1)
  for from = 1, #values, step do
    call(command, key, unpack(values, from, math.min(from + step - 1, #values)))
  end
end

-- The values of fields of a hash, any number of them.
local function fetch(key, fields)
  if #fields <= MOST then
    return #fields > 0 and call('HMGET', key, unpack(fields)) or {}
  end
  local found = {}
  for from = 1, #fields, MOST do
    local part = call('HMGET', key, unpack(fields, from, math.min(from + MOST - 1, #fields)))
    for i = 1, #part do
      found[from + i - 1] = part[i]
    end
  end
  return found
end

-- The table that a text holds; nothing when it holds something else, written by hand or by a later version. Who meets that passes it by, and tells.
local function table_of(text)
  local is_read, found = pcall(cmsgpack.unpack, text)
  return is_read and type(found) == 'table' and found or nil
end

-- Tells all processes what cannot be read; each says so once in its log.
local function tell_damage(what)
  call('PUBLISH', P .. 'all', 'd' .. what)
end

-- What must be told at the end: queues in which something may have become claimable, what has ended, orders to claimed work; and counts.
local stirred, stirs, ended, orders, counts = {}, 0, {}, false, {}
-- Changes of status that there may be reactions to: task, status, id, round, attempt.
local changes = {}

local function stir(queue, n)
  stirred[queue] = (stirred[queue] or 0) + n
  stirs = stirs + n
end

local function count(status, queue, task, n)
  local name = pack('>BI2c0', status, #queue, queue) .. task
  counts[name] = (counts[name] or 0) + n
end

-- Whether anybody waits for any result.
local function is_watched()
  return call('EXISTS', P .. 'ties') == 1
end

-- Tells who watches: one message for each process, with the state of what it watches alone.
local function tell_watchers()
  local ids = {}
  for i = 1, #ended do
    ids[i] = ended[i][1]
  end
  local ties, letters, untied = fetch(P .. 'ties', ids), {}, {}
  for i = 1, #ids do
    if ties[i] then
      untied[#untied + 1] = ids[i]
      for client, wants in string.gmatch(ties[i], '(%x+)([+-])') do
        local state = wants == '+' and #ended[i][2] < 65536 and ended[i][2] or ''
        local letter = letters[client] or {'f'}
        letters[client] = letter
        letter[#letter + 1] = pack('>I2c0I4c0', #ids[i], ids[i], #state, state)
      end
    end
  end
  each('HDEL', P .. 'ties', untied)
  for client, letter in pairs(letters) do
    call('PUBLISH', P .. 'c:' .. client, table.concat(letter))
  end
end

-- Wakes as many idle processes as there is something to claim; each says again when it is idle.
local function tell_idle(left)
  local idle = call('HGETALL', P .. 'idle')
  for i = 1, #idle, 2 do
    local wanted = idle[i + 1]
    local fits = wanted == ''
    if not fits then
      local queues = table_of(wanted)
      fits = queues == nil
      for _, queue in ipairs(queues or {}) do
        fits = fits or stirred[queue] ~= nil
      end
    end
    if fits and (left > 0 or wanted ~= '') then
      call('HDEL', P .. 'idle', idle[i])
      -- Who does not hear it any more counts for nobody.
      left = left - math.min(call('PUBLISH', P .. 'c:' .. idle[i], 'w'), 1)
    end
  end
end

local function add_to_tally(name, n)
  if call('HINCRBY', P .. 'tally', name, n) == 0 then
    call('HDEL', P .. 'tally', name)
  end
end

-- Writes the counts. Where rows have only changed places nothing is added, which is written as well: who compares counts with rows must see that they moved.
local function write_counts()
  local is_written = false
  for name, n in pairs(counts) do
    if n ~= 0 then
      add_to_tally(name, n)
      is_written = true
    end
  end
  if not is_written and next(counts) then
    add_to_tally(next(counts), 0)
  end
end

-- Writes the counts and wakes who must hear of what was done. ``taken`` of what became claimable is claimed again.
local function tell(taken)
  write_counts()
  if #ended > 0 and is_watched() then
    tell_watchers()
  end
  if stirs > 0 and call('EXISTS', P .. 'idle') == 1 then
    tell_idle(stirs - taken)
  end
  if orders then
    call('PUBLISH', P .. 'all', 'o')
  end
end
