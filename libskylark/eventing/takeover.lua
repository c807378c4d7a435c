#!lua flags=allow-oom
-- Gives the entries of a dispatcher that is gone to the caller, with their partitions and their place in them.
--
-- KEYS 1 broker:events       stream
--      2 broker:dispatchers  hash    name -> "<session> <last batch stored>"
--      3 broker:partitions   hash    partition -> "<entries outstanding> <dispatcher that has them>"
--      4 broker:handed       prefix  ":NAME" is a list: ids of entries that others have stored for that dispatcher
-- ARGV 1 the caller   2 the one that is gone   3 what broker:dispatchers had for it when it was found gone
--
-- Answers how many entries were taken over, -1 where that one has come back, or is taken care of.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  return redis.error_reply('FENCED another dispatcher has taken over from this one')
end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return -1 end

local taken = 0
while true do
  local pending = redis.call('XPENDING', KEYS[1], 'dispatchers', '-', '+', 1000, ARGV[2])
  if #pending == 0 then break end
  local ids = {}
  for index, entry in ipairs(pending) do ids[index] = entry[1] end
  ids[#ids + 1] = 'JUSTID'
  -- XCLAIM drops what is no longer in the stream; the rest changes hands.
  redis.call('XCLAIM', KEYS[1], 'dispatchers', ARGV[1], 0, unpack(ids))
  taken = taken + #pending
end

local partitions = redis.call('HGETALL', KEYS[3])
for index = 1, #partitions, 2 do
  local count, owner = string.match(partitions[index + 1], '^(%d+) (.+)$')
  if owner == ARGV[2] then redis.call('HSET', KEYS[3], partitions[index], count .. ' ' .. ARGV[1]) end
end
redis.call('DEL', KEYS[4] .. ':' .. ARGV[2])
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'dispatchers', ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[2])
return taken
