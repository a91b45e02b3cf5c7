-- A runner: group, supervised, lease, started, seen, and on the clock of leases boot, since, until; and how it died.
local GROUP, SUPERVISED, LEASE, STARTED, SEEN, BOOT, SINCE, UNTIL, DEATH = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- Whether a lease has run out.
local function is_over(record)
  return record[BOOT] ~= boot or record[UNTIL] <= lease_now
end
