-- ARGV: now, request.
local request = request_of(ARGV[2])
local answer = claim_usual(request)
if answer then
  tell(0)
  return answer
end
--{any}
local found, taken = claim_any(request)
react()
tell(taken or 0)
return found
