-- Makes the caller a dispatcher of the stream, so that what it sent over an earlier connection is refused from now on.
--
-- KEYS 1 broker:dispatchers  hash    name -> "<session> <last batch stored>"
--      2 broker:events       stream
-- ARGV 1 name   2 session, higher than the one before   3 '1' where the name is new
--
-- Answers the number of the last batch that was stored under this name, '0' if none.
local known = redis.call('HGET', KEYS[1], ARGV[1])
-- Without any dispatcher Redis has lost its data, and what the caller has in memory is all there is.
if not known and ARGV[3] ~= '1' and redis.call('HLEN', KEYS[1]) > 0 then
  return redis.error_reply('FENCED another dispatcher has taken over from this one')
end
local batch = string.match(known or '', ' (%d+)$') or '0'
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. batch)

local created = redis.pcall('XGROUP', 'CREATE', KEYS[2], 'dispatchers', '0', 'MKSTREAM')
if not created.err then
  -- What is in a stream without a group was stored before there were groups.
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
    redis.call('XCLAIM', KEYS[2], 'dispatchers', ARGV[1], 0, entry[1], 'FORCE', 'JUSTID')
  end
end
return batch
